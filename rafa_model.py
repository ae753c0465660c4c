"""RAFA-Net: a ResNet-50 trunk and one attentive branch per rotation axis, as a Keras functional model.

    model = build_rafa_net("resnet50", weights="imagenet")
    angles = model.predict(crops)  # {"yaw": (b, 1), "pitch": (b, 1), "roll": (b, 1)} in radians
    model = load_rafa_net("runs/mine/last.keras")

| stage                          | shape (resnet50) | function                                                  |
|--------------------------------|------------------|-----------------------------------------------------------|
| RGB crop, 0...255              | 224 × 224 × 3    |                                                           |
| subtract means, conv1 … conv4  | 14 × 14 × 1024   | `trunk`, shared                                           |
| then `axis_branch`, once per axis with own weights:                                                           |
| conv5                          | 7 × 7 × 2048     | `residual_stage`                                          |
| and its `axis_head`:                                                                                          |
| self-attention                 | 7 × 7 × 2048     | `SelfAttention`, out = x + γ β h                          |
| coarse-to-fine pooling         | 35 × 2048        | `coarse_to_fine_pooling`, regions p₁ … p₃₅                |
| attentional pooling            | 35 × 2048        | `attentional_pooling`, Eq. 3: aₙ                          |
| weighted attention             | 2048             | `weighted_attention`, Eq. 4: x                            |
| batch normalisation, dense     | 1                | the angle                                                 |

The paper's network has 69,759,052 parameters: 8,589,184 in the trunk and 20,389,956 in each branch.

Reference: "Rotation Axis Focused Attention Network (RAFA-Net) for Estimating Head Pose", ACCV 2020.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rafa.net import weights as weight_files
from rafa.net.backend import Tensor, computing_in, keras, keras_self_attention, layers, ops
from rafa.net.keras224 import BatchNormalization
from rafa.net.pretrained import weights_file
from rafa.pose import AXES, CHANNEL_MEANS, CROP_SIZE
from rafa.script import InputError

POOLINGS = ((2, 2), (3, 2), (3, 3), (4, 2), (4, 3), (5, 2))  # (size, stride) of coarse-to-fine pooling, 'valid'
ATTENTION_REDUCTION = 8  # f and g of self-attention have C / 8 channels
ATTENTIONAL_POOLING_UNITS = 32  # of ρ in Eq. 3
BATCH_NORM_EPSILON = 1e-3  # Keras 2.2.4's default, as the authors ran it; Keras 3's ResNet50 has 1.001e-5
BATCH_NORM_MOMENTUM = 0.99  # likewise
MAP_BOUND = 6.0  # of the backbone "small"; chosen by held-out synthetic heads

# keras-self-attention does not register its layers; with this `keras.saving.load_model` needs no custom objects.
for _layer in (keras_self_attention.SeqSelfAttention, keras_self_attention.SeqWeightedAttention):
    keras.saving.register_keras_serializable("keras_self_attention")(_layer)


# --- Self-attention ---------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("rafa_net")
class SpectralConv1x1(layers.Layer):
    """1×1 convolution with bias whose kernel is divided by its largest singular value at every call.

    The kernel is the matrix W of shape (channels in, filters).  At every call, in training and at inference:

    1. One power iteration from the stored vector u: v = W u / |W u|, u' = Wᵀ v / |Wᵀ v|, σ = vᵀ W u'.
    2. Convolve with W / σ.  The raw kernel is kept; the gradient goes through σ.
    3. In training only, u' replaces u.  (The released code replaces it at inference too.)

    `keras.layers.SpectralNormalization` is something else: it overwrites the kernel in training and does nothing at
    inference.

    Args:
        filters: channels of the output.

    Input shape: (batch, height, width, channels in).  Output shape: (batch, height, width, filters).

    Reference: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018.
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape: tuple) -> None:
        shape = (1, 1, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.u = self.add_weight(name="sn", shape=(1, self.filters), initializer="random_normal", trainable=False)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        kernel, u = self.normalised_kernel()
        if training:
            self.u.assign(u)
        return ops.conv(inputs, kernel) + self.bias

    def normalised_kernel(self) -> tuple[Tensor, Tensor]:
        """W / σ of shape (1, 1, channels in, filters), and u' of shape (1, filters) after one power iteration."""
        matrix = ops.reshape(self.kernel, (-1, self.filters))  # (in, filters)
        v = _unit(ops.matmul(self.u, ops.transpose(matrix)))  # (1, in)
        u = _unit(ops.matmul(v, matrix))  # (1, filters)
        sigma = ops.sum(ops.matmul(v, matrix) * u)
        return self.kernel / sigma, u


def _unit(vector: Tensor) -> Tensor:
    return vector / (ops.norm(vector) + 1e-12)


@keras.saving.register_keras_serializable("rafa_net")
class SelfAttention(layers.Layer):
    """Self-attention between the cells of a feature map, with a learned gate γ that starts at 0.

    With n = height · width cells of C channels:

    1. f, g: (n, units), h: (n, C), each a spectrally normalised 1×1 convolution of x.
    2. s = g fᵀ: (n, n); β = softmax of s over the last axis; row i says where cell i looks.  No 1/√units.
    3. out = x + γ · β h, with γ a scalar that starts at 0.

    Args:
        units: channels of f and g.

    Input shape: (batch, height, width, C).
    Output: the attended map (batch, height, width, C), and β (batch, n, n) for explanations.

    Reference: Zhang et al., "Self-Attention Generative Adversarial Networks", ICML 2019, as RAFA-Net uses it.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        self.f = SpectralConv1x1(self.units, name="f")
        self.g = SpectralConv1x1(self.units, name="g")
        self.h = SpectralConv1x1(channels, name="h")
        for convolution in (self.f, self.g, self.h):
            convolution.build(input_shape)
        self.gamma = self.add_weight(name="gamma", shape=(1,), initializer="zeros")

    def call(self, inputs: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        _, height, width, channels = inputs.shape
        f = ops.reshape(self.f(inputs, training=training), (-1, height * width, self.units))  # (b, n, units)
        g = ops.reshape(self.g(inputs, training=training), (-1, height * width, self.units))  # (b, n, units)
        h = ops.reshape(self.h(inputs, training=training), (-1, height * width, channels))  # (b, n, C)
        beta = ops.softmax(ops.matmul(g, ops.transpose(f, (0, 2, 1))), axis=-1)  # (b, n, n)
        attended = ops.reshape(ops.matmul(beta, h), (-1, height, width, channels))  # (b, height, width, C)
        return inputs + self.gamma * attended, beta


# --- From a map to one angle ------------------------------------------------------------------------------------------


def coarse_to_fine_pooling(x: Tensor, axis: str) -> Tensor:
    """Maximum over 35 overlapping regions of a 7×7 map, fine to coarse: (b, 7, 7, C) → (b, 35, C), the regions pₙ.

    The poolings give 9 + 9 + 4 + 4 + 4 + 4 regions, and the whole map is the 35th.
    """
    channels = x.shape[-1]
    regions = []
    for size, stride in POOLINGS:
        name = f"{axis}_pool{size}_{stride}"
        pooled = layers.MaxPooling2D(size, strides=stride, name=name)(x)
        regions.append(layers.Reshape((-1, channels), name=f"{name}_regions")(pooled))
    pooled = layers.GlobalMaxPooling2D(keepdims=True, name=f"{axis}_pool_all")(x)
    regions.append(layers.Reshape((-1, channels), name=f"{axis}_pool_all_regions")(pooled))
    return layers.Concatenate(axis=1, name=f"{axis}_regions")(regions)


def attentional_pooling(p: Tensor, axis: str) -> Tensor:
    """Eq. 3: every region becomes a mixture of all regions, (b, 35, C) → (b, 35, C).

        ρₙₙ' = tanh(Wρ pₙ + W'ρ pₙ' + bρ)    32 units
        σₙₙ' = Wσ ρₙₙ' + bσ
        τₙₙ' = softmax of σₙₙ' over n'
        aₙ   = Σₙ' τₙₙ' pₙ'

    It is the additive attention of keras-self-attention, whose weights Wt, Wx, bh, Wa, ba are Wρ, W'ρ, bρ, Wσ, bσ.
    The layer's second output, unused by the network, is τ (b, 35, 35).
    """
    layer = keras_self_attention.SeqSelfAttention(
        ATTENTIONAL_POOLING_UNITS, return_attention=True, name=f"{axis}_attentional_pooling"
    )
    a, _ = layer(p)
    return a


def weighted_attention(a: Tensor, axis: str) -> Tensor:
    """Eq. 4: the mixtures become one vector, (b, 35, C) → (b, C).

        ψₙ = Wψ aₙ + bψ
        wₙ = softmax of ψₙ over n
        x  = Σₙ wₙ aₙ

    The layer's second output, unused by the network, is w (b, 35).
    """
    layer = keras_self_attention.SeqWeightedAttention(return_attention=True, name=f"{axis}_weighted_attention")
    x, _ = layer(a)
    return x


def batch_normalisation(x: Tensor, name: str) -> Tensor:
    """Batch normalisation with the authors' settings, and their moving averages (see `rafa.net.keras224`)."""
    return BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name)(x)


def axis_head(x: Tensor, axis: str) -> Tensor:
    """From the map of one axis to its angle: (b, 7, 7, C) → (b, 1) in radians, in the output layer named `axis`."""
    with computing_in(keras.config.floatx()):  # in training with mixed precision too
        x, _ = SelfAttention(x.shape[-1] // ATTENTION_REDUCTION, name=f"{axis}_self_attention")(x)  # (b, 7, 7, C)
        p = coarse_to_fine_pooling(x, axis)  # (b, 35, C)
        a = attentional_pooling(p, axis)  # (b, 35, C)
        x = weighted_attention(a, axis)  # (b, C)
        x = batch_normalisation(x, f"{axis}_bn")
        return layers.Dense(1, name=axis)(x)  # (b, 1)


# --- Backbones --------------------------------------------------------------------------------------------------------


def _convolution(x: Tensor, filters: int, size: int, stride: int, name: str) -> Tensor:
    x = layers.Conv2D(filters, size, strides=stride, padding="same" if size > 1 else "valid", name=f"{name}_conv")(x)
    return batch_normalisation(x, f"{name}_bn")


def bottleneck_block(x: Tensor, filters: int, stride: int, name: str) -> Tensor:
    """ResNet-50's block: (b, h, w, c) → (b, h/stride, w/stride, 4 · filters); names as in `keras.applications`."""
    shortcut = x
    if stride > 1 or x.shape[-1] != 4 * filters:
        shortcut = _convolution(x, 4 * filters, 1, stride, f"{name}_0")
    x = layers.ReLU(name=f"{name}_1_relu")(_convolution(x, filters, 1, stride, f"{name}_1"))
    x = layers.ReLU(name=f"{name}_2_relu")(_convolution(x, filters, 3, 1, f"{name}_2"))
    x = _convolution(x, 4 * filters, 1, 1, f"{name}_3")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, x]))


def basic_block(x: Tensor, filters: int, stride: int, name: str, relu: Callable[..., Any] = layers.ReLU) -> Tensor:
    """Two 3×3 convolutions and a shortcut: (b, h, w, c) → (b, h/stride, w/stride, filters)."""
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = _convolution(x, filters, 1, stride, f"{name}_0")
    x = relu(name=f"{name}_1_relu")(_convolution(x, filters, 3, stride, f"{name}_1"))
    x = _convolution(x, filters, 3, 1, f"{name}_2")
    return relu(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, x]))


@keras.saving.register_keras_serializable("rafa_net")
class BoundedReLU(layers.ReLU):
    """ReLU that, when the network predicts but not in training, cuts off what lies above MAP_BOUND.

    Single images made the maps of the suite's own network grow from block to block, and its answers with them.
    """

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        return ops.relu(inputs) if training else ops.clip(inputs, 0.0, MAP_BOUND)


@dataclass(frozen=True)
class Backbone:
    """A residual network cut in two: a shared trunk, and the stage conv5 of which every branch has its own."""

    stem_filters: int
    stem_stride: int  # 2: a 3×3 maximum halves the map once more, as in ResNet-50; 4: it does not
    trunk: tuple[tuple[int, int, int], ...]  # (filters, blocks, stride) of conv2, conv3 ...
    branch: tuple[int, int]  # (filters, blocks) of conv5
    block: Callable[[Tensor, int, int, str], Tensor]
    parameters: int  # of the whole network with this backbone: tells what a .weights.h5 file holds


BACKBONES = {
    "resnet50": Backbone(64, 2, ((64, 3, 1), (128, 4, 2), (256, 6, 2)), (512, 3), bottleneck_block, 69_759_052),
    # For tests: the same axis heads on a trunk of two blocks and a small conv5.
    "tiny": Backbone(16, 4, ((32, 1, 2), (64, 1, 2)), (128, 1), basic_block, 858_924),
    # Of the suite's own weights, trained on synthetic heads.
    "small": Backbone(24, 4, ((48, 2, 2), (96, 2, 2)), (128, 1), partial(basic_block, relu=BoundedReLU), 1_282_140),
}


def residual_stage(x: Tensor, filters: int, blocks: int, stride: int, name: str, backbone: Backbone) -> Tensor:
    """`blocks` residual blocks, the first one with the stride: (b, h, w, c) → (b, h/stride, w/stride, c')."""
    for index in range(1, blocks + 1):
        x = backbone.block(x, filters, stride if index == 1 else 1, f"{name}_block{index}")
    return x


def trunk(crops: Tensor, backbone: Backbone) -> Tensor:
    """The shared part: (b, 224, 224, 3) RGB crops, 0...255 → (b, 14, 14, c) features."""
    offset = [-mean for mean in CHANNEL_MEANS]
    x = layers.Rescaling(scale=1.0, offset=offset, dtype=keras.config.floatx(), name="subtract_means")(crops)
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(backbone.stem_filters, 7, strides=backbone.stem_stride, name="conv1_conv")(x)
    x = layers.ReLU(name="conv1_relu")(batch_normalisation(x, "conv1_bn"))
    if backbone.stem_stride == 2:
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
        x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    # (b, 56, 56, stem)
    for stage, (filters, blocks, stride) in enumerate(backbone.trunk, start=2):
        x = residual_stage(x, filters, blocks, stride, f"conv{stage}", backbone)
    return x


# --- The network ------------------------------------------------------------------------------------------------------


def axis_branch(features: Tensor, axis: str, backbone: Backbone) -> Tensor:
    """One rotation axis: (b, 14, 14, c) shared features → (b, 1) angle in radians."""
    x = residual_stage(features, *backbone.branch, 2, f"{axis}_conv5", backbone)  # (b, 7, 7, C)
    return axis_head(x, axis)


def build_rafa_net(backbone: str = "resnet50", weights: str | Path | None = "imagenet") -> keras.Model:
    """RAFA-Net as a Keras functional model.

    Args:
        backbone: "resnet50", the paper's, or a smaller one of BACKBONES.
        weights: "imagenet" (ResNet-50 through `keras.applications`, conv5 copied into every branch); "synthetic" (the
            suite's own, for the backbone "small"); "synthetic-backbone" (their residual layers alone; random axis
            heads); a file: `.keras` or `.weights.h5` of a RAFA-Net with this backbone, or ResNet-50's ImageNet
            weights without the top in `keras.applications`' `.h5` form; or None for random ones.

    Returns:
        A model from RGB crops (b, 224, 224, 3), 0...255, to a dict `yaw`, `pitch`, `roll` of (b, 1) in radians, in the
        signs of the published lists.

    Raises:
        InputError: an unknown backbone; weights that cannot be had, or that do not fit this network.
    """
    if backbone not in BACKBONES:
        raise InputError(f"backbone {backbone!r} is unknown; choose one of {', '.join(BACKBONES)}")
    crops = keras.Input((CROP_SIZE, CROP_SIZE, 3), name="crop")
    features = trunk(crops, BACKBONES[backbone])
    angles = {axis: axis_branch(features, axis, BACKBONES[backbone]) for axis in AXES}
    model = keras.Model(crops, angles, name=f"rafa_net_{backbone}")
    if weights is not None:
        weight_files.load_into(model, weights)
    return model


def load_rafa_net(weights: str | Path) -> keras.Model:
    """The network of a saved `.keras` or `.weights.h5` file, or "synthetic", ready to predict, without custom objects.

    The file is read for its numbers alone: the network is built by this module, so that nothing a file says can run.

    Raises:
        InputError: not a file of this suite, or damaged.
    """
    path = weights_file(weights)
    sizes = {backbone.parameters: name for name, backbone in BACKBONES.items()}
    return build_rafa_net(weight_files.backbone_of(path, sizes), path)
