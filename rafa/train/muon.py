"""Muon, an optimizer that moves a convolution's kernel equally far in all directions."""

from typing import Any

from rafa.net.backend import Tensor, keras, ops


@keras.saving.register_keras_serializable("rafa_net")
class Muon(keras.optimizers.Adam):
    """Adam for vectors and dense layers, and for the kernels of convolutions steps of its own.

    With the kernel w, its gradient g and a decaying sum m of its gradients, as matrices (height · width · in, out):

        m ← 0.95 m + g
        w ← w − learning rate · 0.4 √(longer side) · orthogonal(g + 0.95 m)

    where `orthogonal` brings the singular values near 1 (0.7 to 1.2; far smaller ones stay below), by the iteration of
    `keras.optimizers.Muon`, which itself takes matrices alone.  Jordan et al., "Muon: an optimizer for hidden layers in
    neural networks" (2024); the factor √(longer side) is from Liu et al., "Muon is scalable for LLM training" (2025,
    arXiv:2502.16982), who have 0.2 instead of 0.4.
    """

    momentum, size = 0.95, 0.4

    def build(self, variables: list[Any]) -> None:
        """Make the sums of the gradients, and an optimizer of Keras for its iteration."""
        super().build(variables)
        self.orthogonal = keras.optimizers.Muon().zeropower_via_newtonschulz5

    def update_step(self, gradient: Tensor, variable: Tensor, learning_rate: Tensor) -> None:
        if len(variable.shape) != 4:
            super().update_step(gradient, variable, learning_rate)
            return
        total = self._momentums[self._get_variable_index(variable)]
        self.assign(total, self.momentum * total + gradient)
        matrix = ops.reshape(gradient + self.momentum * total, (-1, variable.shape[-1]))
        step = learning_rate * self.size * max(matrix.shape) ** 0.5 * self.orthogonal(matrix, 5)
        self.assign_sub(variable, ops.reshape(step, variable.shape))
