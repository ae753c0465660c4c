"""RAFA-Net as a Keras functional model: a ResNet-50 trunk and one attentive branch per rotation axis.

    model = build_rafa_net("resnet50", weights="imagenet")
    angles = model.predict(crops)  # {"yaw": (b, 1), "pitch": (b, 1), "roll": (b, 1)} in radians
    model = load_rafa_net("best.keras")

Reference: "Rotation Axis Focused Attention Network (RAFA-Net) for Estimating Head Pose", ACCV 2020.
"""

from collections.abc import Callable
from dataclasses import dataclass

from data_loaders import AXES
from util.backend import keras, keras_self_attention, tf

layers, ops = keras.layers, keras.ops
SeqSelfAttention, SeqWeightedAttention = (
    keras_self_attention.SeqSelfAttention,
    keras_self_attention.SeqWeightedAttention,
)

INPUT_SHAPE = (224, 224, 3)  # one RGB crop, 0...255
BATCH_NORM_EPSILON = 1e-3  # the authors' Keras 2.2.4 default; Keras 3's ResNet50 has 1.001e-5
# The authors handed a BGR picture to a preprocessor that reverses the channels before it subtracts the means meant for
# BGR: the network sees RGB minus these values, in this order.
CHANNEL_MEANS = (103.939, 116.779, 123.68)
POOLINGS = ((2, 2), (3, 2), (3, 3), (4, 2), (4, 3), (5, 2))  # (size, stride) of coarse-to-fine pooling, 'valid'
ATTENTION_REDUCTION = 8  # f and g of self-attention have C / 8 channels
ATTENTIONAL_POOLING_UNITS = 32  # Eq. 3


# --- Layers with state of their own -----------------------------------------------------------------------------------


# keras-self-attention does not register its layers; now `keras.saving.load_model` needs no custom objects either.
for _layer in (SeqSelfAttention, SeqWeightedAttention):
    keras.saving.register_keras_serializable("keras_self_attention")(_layer)


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

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape):
        shape = (1, 1, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.u = self.add_weight(name="sn", shape=(1, self.filters), initializer="random_normal", trainable=False)

    def call(self, inputs, training=False):
        kernel, u = self.normalised_kernel()
        if training:
            self.u.assign(u)
        return ops.conv(inputs, kernel) + self.bias

    def normalised_kernel(self):
        """W / σ of shape (1, 1, channels in, filters), and u' of shape (1, filters) after one power iteration."""
        matrix = ops.reshape(self.kernel, (-1, self.filters))  # (in, filters)
        v = _unit(ops.matmul(self.u, ops.transpose(matrix)))  # (1, in)
        u = _unit(ops.matmul(v, matrix))  # (1, filters)
        sigma = ops.sum(ops.matmul(v, matrix) * u)
        return self.kernel / sigma, u

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def _unit(vector):
    return vector / (ops.norm(vector) + 1e-12)


@keras.saving.register_keras_serializable("rafa_net")
class SelfAttention(layers.Layer):
    """Self-attention between the cells of a feature map, with a learned gate that starts closed.

    With n = height · width cells of C channels:

    1. f, g: (n, units), h: (n, C), each a spectrally normalised 1×1 convolution of x.
    2. β = softmax(g fᵀ) over the last axis: (n, n); row i says where cell i looks.  No 1/√units.
    3. out = x + γ · β h, with γ a scalar that starts at 0.

    Args:
        units: channels of f and g.

    Input shape: (batch, height, width, C).
    Output: the attended map (batch, height, width, C), and β (batch, n, n) for whoever wants to look at it.

    Reference: Zhang et al., "Self-Attention Generative Adversarial Networks", ICML 2019, as RAFA-Net uses it.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        channels = input_shape[-1]
        self.f = SpectralConv1x1(self.units, name="f")
        self.g = SpectralConv1x1(self.units, name="g")
        self.h = SpectralConv1x1(channels, name="h")
        for convolution in (self.f, self.g, self.h):
            convolution.build(input_shape)
        self.gamma = self.add_weight(name="gamma", shape=(1,), initializer="zeros")

    def call(self, inputs, training=False):
        _, height, width, channels = inputs.shape
        f = ops.reshape(self.f(inputs, training=training), (-1, height * width, self.units))  # (b, n, units)
        g = ops.reshape(self.g(inputs, training=training), (-1, height * width, self.units))  # (b, n, units)
        h = ops.reshape(self.h(inputs, training=training), (-1, height * width, channels))  # (b, n, C)
        attention = ops.softmax(ops.matmul(g, ops.transpose(f, (0, 2, 1))), axis=-1)  # (b, n, n)
        attended = ops.reshape(ops.matmul(attention, h), (-1, height, width, channels))  # (b, height, width, C)
        return inputs + self.gamma * attended, attention

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return tuple(input_shape), (batch, height * width, height * width)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


# --- Backbones --------------------------------------------------------------------------------------------------------


def _convolution(x, filters, size, stride, name, momentum):
    x = layers.Conv2D(filters, size, strides=stride, padding="same" if size > 1 else "valid", name=f"{name}_conv")(x)
    return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=momentum, name=f"{name}_bn")(x)


def bottleneck_block(x, filters, stride, name, momentum):
    """ResNet-50's block: (b, h, w, c) → (b, h/stride, w/stride, 4 · filters); names as in `keras.applications`."""
    shortcut = x
    if stride > 1 or x.shape[-1] != 4 * filters:
        shortcut = _convolution(x, 4 * filters, 1, stride, f"{name}_0", momentum)
    x = layers.ReLU(name=f"{name}_1_relu")(_convolution(x, filters, 1, stride, f"{name}_1", momentum))
    x = layers.ReLU(name=f"{name}_2_relu")(_convolution(x, filters, 3, 1, f"{name}_2", momentum))
    x = _convolution(x, 4 * filters, 1, 1, f"{name}_3", momentum)
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, x]))


def basic_block(x, filters, stride, name, momentum):
    """Two 3×3 convolutions and a shortcut: (b, h, w, c) → (b, h/stride, w/stride, filters)."""
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = _convolution(x, filters, 1, stride, f"{name}_0", momentum)
    x = layers.ReLU(name=f"{name}_1_relu")(_convolution(x, filters, 3, stride, f"{name}_1", momentum))
    x = _convolution(x, filters, 3, 1, f"{name}_2", momentum)
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, x]))


@dataclass(frozen=True)
class Backbone:
    """A residual network cut in two: a shared trunk and the stage conv5 that every branch repeats."""

    stem_filters: int
    stem_stride: int  # 2: a 3×3 maximum halves the map once more, as in ResNet-50; 4: it does not
    trunk: tuple  # ((filters, blocks, stride), ...) of conv2, conv3 ...
    branch: tuple  # (filters, blocks) of conv5
    block: Callable
    momentum: float  # of batch normalisation's moving averages


BACKBONES = {
    "resnet50": Backbone(64, 2, ((64, 3, 1), (128, 4, 2), (256, 6, 2)), (512, 3), bottleneck_block, momentum=0.99),
    # For tests and demonstrations: the same head on 0.86 M parameters.  Short runs need moving averages that follow
    # quickly; with 0.9 they follow single batches and turn the answers by degrees.
    "tiny": Backbone(16, 4, ((32, 1, 2), (64, 1, 2)), (128, 1), basic_block, momentum=0.97),
}


def residual_stage(x, filters, blocks, stride, name, backbone):
    """`blocks` residual blocks, the first one with the stride: (b, h, w, c) → (b, h/stride, w/stride, c')."""
    for index in range(1, blocks + 1):
        x = backbone.block(x, filters, stride if index == 1 else 1, f"{name}_block{index}", backbone.momentum)
    return x


def trunk(crops, backbone):
    """The shared part: (b, 224, 224, 3) RGB crops 0...255 → (b, 14, 14, c) features."""
    offset = [-mean for mean in CHANNEL_MEANS]
    x = layers.Rescaling(scale=1.0, offset=offset, name="subtract_means")(crops)
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(backbone.stem_filters, 7, strides=backbone.stem_stride, name="conv1_conv")(x)
    x = layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=backbone.momentum, name="conv1_bn")(x)
    x = layers.ReLU(name="conv1_relu")(x)
    if backbone.stem_stride == 2:
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
        x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    # (b, 56, 56, stem)
    for stage, (filters, blocks, stride) in enumerate(backbone.trunk, start=2):
        x = residual_stage(x, filters, blocks, stride, f"conv{stage}", backbone)
    return x


# --- The branch and the network ---------------------------------------------------------------------------------------


def coarse_to_fine_pooling(x, axis):
    """Maximum over 35 overlapping regions of a 7×7 map, fine to coarse: (b, 7, 7, c) → (b, 35, c)."""
    channels = x.shape[-1]
    regions = []
    for size, stride in POOLINGS:
        name = f"{axis}_pool{size}_{stride}"
        pooled = layers.MaxPooling2D(size, strides=stride, name=name)(x)
        regions.append(layers.Reshape((-1, channels), name=f"{name}_regions")(pooled))
    pooled = layers.GlobalMaxPooling2D(keepdims=True, name=f"{axis}_pool_all")(x)
    regions.append(layers.Reshape((-1, channels), name=f"{axis}_pool_all_regions")(pooled))
    return layers.Concatenate(axis=1, name=f"{axis}_regions")(regions)


def axis_branch(features, axis, backbone):
    """One rotation axis: (b, 14, 14, c) shared features → (b, 1) angle in radians, in the output layer `axis`."""
    x = residual_stage(features, *backbone.branch, 2, f"{axis}_conv5", backbone)  # (b, 7, 7, C)
    x, _ = SelfAttention(x.shape[-1] // ATTENTION_REDUCTION, name=f"{axis}_self_attention")(x)  # (b, 7, 7, C)
    x = coarse_to_fine_pooling(x, axis)  # (b, 35, C)
    return attentive_regression(x, axis, backbone.momentum)


def attentive_regression(x, axis, momentum):
    """Eq. 3 and Eq. 4 and the angle: (b, 35, c) regions → (b, 1) in radians."""
    # Both layers hand out their attention too, unused by the network, for whoever wants to look at it.
    x, _ = SeqSelfAttention(ATTENTIONAL_POOLING_UNITS, return_attention=True, name=f"{axis}_attentional_pooling")(x)
    x, _ = SeqWeightedAttention(return_attention=True, name=f"{axis}_weighted_attention")(x)  # (b, C)
    x = layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=momentum, name=f"{axis}_bn")(x)
    return layers.Dense(1, dtype="float32", name=axis)(x)


def build_rafa_net(backbone="resnet50", weights="imagenet"):
    """RAFA-Net as a Keras functional model.

    Args:
        backbone: "resnet50", the paper's, or "tiny", for tests and demonstrations.
        weights: "imagenet" (ResNet-50 through `keras.applications`, conv5 copied into every branch); a file:
            `.keras` or `.weights.h5` of a RAFA-Net with this backbone, or ResNet-50's ImageNet weights without the
            top in `keras.applications`' `.h5` form; or None for random ones.

    Returns:
        A model from RGB crops (b, 224, 224, 3), 0...255, to a dict `yaw`, `pitch`, `roll` of (b, 1) in radians, in the
        signs of the published lists.

    Raises:
        InputError: weights that cannot be had, or that do not fit this network.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone {backbone!r} is unknown; choose one of {', '.join(BACKBONES)}")
    crops = keras.Input(INPUT_SHAPE, name="crop")
    features = trunk(crops, BACKBONES[backbone])
    angles = {axis: axis_branch(features, axis, BACKBONES[backbone]) for axis in AXES}
    model = keras.Model(crops, angles, name=f"rafa_net_{backbone}")
    if weights is not None:
        from util.weights import start_from

        start_from(model, backbone, weights)
    return model


@keras.saving.register_keras_serializable("rafa_net")
class RMSprop224(keras.optimizers.RMSprop):
    """RMSprop as Keras 2.2.4 computed it: w ← w − learning rate · g / (√v + ε), with v ← ρ v + (1 − ρ) g².

    Keras 3 divides by √(v + ε) instead: its ε of 1e-7 is a floor of 3e-4 under √v.  ε = 1e-14 in that place comes
    near, but still moves weights of small gradients (|g| < 1e-5) by up to 7e-4 in five steps away from the released
    code; this is exact.  Arguments: learning rate 1e-3, ρ 0.9, ε 1e-7 are the authors'.
    """

    def __init__(self, learning_rate=1e-3, rho=0.9, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate, rho=rho, epsilon=epsilon, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        velocity = self._velocities[self._get_variable_index(variable)]
        self.assign(velocity, self.rho * velocity + (1 - self.rho) * ops.square(gradient))
        self.assign_sub(variable, rate * gradient / (ops.sqrt(velocity) + self.epsilon))


def compile_rafa_net(model, learning_rate=1e-3):
    """Compile for training as the released code does: mean squared error in radians, loss weights 1, 1, 1."""
    # XLA takes longer to compile and runs no faster on a CPU; on a GPU it is left to Keras.
    jit_compile = "auto" if tf.config.list_physical_devices("GPU") else False
    model.compile(RMSprop224(learning_rate), loss=dict.fromkeys(AXES, "mean_squared_error"), jit_compile=jit_compile)


def load_rafa_net(path):
    """The network of a saved `.keras` or `.weights.h5` file, ready to predict: one call, no custom objects.

    The file is read for its numbers alone: the network is built by this module, so that nothing a file says can run.

    Raises:
        InputError: not a file of this suite, or damaged.
    """
    from util.weights import backbone_of

    return build_rafa_net(backbone_of(path), weights=path)
