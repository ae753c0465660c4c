"""Numerics of Keras 2.2.4, which the authors ran: RMSprop, and the moving averages of batch normalisation.

Keras 3 computes both differently.  tests/net/test_keras224.py holds these against numbers computed with Keras 2.2.4.
"""

from collections.abc import Callable

from rafa.net.backend import Tensor, keras, layers, ops, tf


@keras.saving.register_keras_serializable("rafa_net")
class RMSprop(keras.optimizers.RMSprop):
    """RMSprop as Keras 2.2.4 computes it, for every weight w and its gradient g.

        v ← ρ v + (1 − ρ) g²
        w ← w − learning rate · g / (√v + ε)

    Keras 3 divides by √(v + ε) instead: its ε of 1e-7 is a floor of 3e-4 under √v.  ε = 1e-14 in that place comes
    near, but still moves weights of small gradients (|g| < 1e-5) by up to 7e-4 in five steps away from the released
    code; this agrees within 2e-6.  The defaults of learning rate, ρ and ε are the same: 1e-3, 0.9 and 1e-7.
    """

    def update_step(self, gradient: Tensor, variable: Tensor, learning_rate: Tensor) -> None:
        # The two lines above as one operation of TensorFlow's, Adagrad's v ← v + g'², w ← w − r · g' / (√v + ε), with
        # v ← ρ v before it, g' = √(1 − ρ) g and r = learning rate / √(1 − ρ).  Written out in Keras' operations they
        # take 1.7 times the time, 0.13 s of a processor in a step of ResNet-50, and 0.4 GB more memory at its peak.
        velocity = self._velocities[self._get_variable_index(variable)].value
        velocity.assign(self.rho * velocity)
        root = (1 - self.rho) ** 0.5
        tf.raw_ops.ResourceApplyAdagradV2(
            var=variable.handle,
            accum=velocity.handle,
            lr=ops.cast(learning_rate, variable.dtype) / root,
            epsilon=ops.cast(self.epsilon, variable.dtype),
            grad=ops.cast(gradient, variable.dtype) * root,
        )


@keras.saving.register_keras_serializable("rafa_net")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation over the last axis whose moving averages follow Keras 2.2.4; Keras' own at inference.

    In training, with n values per channel in the batch, momentum d, and t = 1, 2, 3 ... steps since the start:

    1. Normalise with the mean and the biased variance of the batch, as everywhere.
    2. Un-bias the variance: v' = v · n / (n − (1 + ε)), and on maps once more · n / (n − 1), because TensorFlow's
       fused operation has un-biased it already.
    3. x ← x + (value − x) · (1 − d) / (1 − dᵗ) for both averages: after t steps x is the average of t batches, and
       what stood there before training is forgotten at the first step.  Keras 3: x ← d · x + (1 − d) · value.

    t is the optimizer's step, so that one place counts for the whole network: call `count_steps` before training.

    Input and output shape: (batch, ..., channels).
    """

    step: Callable[[], Tensor] | None = None  # t of the step that is being computed

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        if not (training and self.trainable):
            return super().call(inputs, training=False)
        if self.step is None:
            raise RuntimeError(f"{self.name} does not know the training step; call count_steps(model, optimizer) first")
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        n = ops.cast(ops.size(x) // ops.shape(x)[-1], x.dtype)
        on_maps = len(self._reduction_axes) == 3
        if on_maps and x.dtype == tf.float32:  # the operation that the authors ran; it has no double precision
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, self.gamma, self.beta, epsilon=self.epsilon)
        else:
            mean, variance = ops.moments(x, axes=self._reduction_axes)
            outputs = ops.batch_normalization(x, mean, variance, -1, self.beta, self.gamma, self.epsilon)
            variance = variance * n / (n - 1) if on_maps else variance
        self._update_averages(mean, variance, n, ops.cast(self.step(), x.dtype))
        return ops.cast(outputs, self.compute_dtype)

    def _update_averages(self, mean: Tensor, variance: Tensor, n: Tensor, step: Tensor) -> None:
        unbiased = variance * n / (n - (1 + self.epsilon))
        momentum = ops.cast(self.momentum, mean.dtype)
        rate = (1 - momentum) / (1 - momentum**step)  # exactly 1 at the first step
        for average, value in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            average.assign(average * (1 - rate) + value * rate)


def count_steps(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Let every `BatchNormalization` of a model count training steps by the optimizer, which saves them."""
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            layer.step = lambda: optimizer.iterations + 1
