"""Muon, an optimizer whose steps turn all directions of a convolution's kernel equally far."""

from typing import Any

from rafa.net.backend import keras, ops

Tensor = Any  # Keras' symbolic tensors have no public type


@keras.saving.register_keras_serializable("rafa_net")
class Muon(keras.optimizers.Adam):
    """Adam for vectors and dense layers, and for the kernels of convolutions steps of its own.

    With the kernel w, its gradient g and their average m as matrices (height · width · in, out):

        m ← 0.95 m + g
        w ← w − learning rate · 0.4 √(longer side) · orthogonal(g + 0.95 m)

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the factor √(longer side) is that
    of Liu et al., "Muon is scalable for LLM training" (2025, arXiv:2502.16982), where 0.2 stands for 0.4.
    `keras.optimizers.Muon` takes matrices alone.
    """

    momentum, size = 0.95, 0.4

    def update_step(self, gradient: Tensor, variable: Tensor, learning_rate: Tensor) -> None:
        if len(variable.shape) != 4:
            super().update_step(gradient, variable, learning_rate)
            return
        average = self._momentums[self._get_variable_index(variable)]
        self.assign(average, self.momentum * average + gradient)
        matrix = ops.reshape(gradient + self.momentum * average, (-1, variable.shape[-1]))
        step = self.size * max(matrix.shape) ** 0.5 * orthogonal(matrix)
        self.assign_sub(variable, learning_rate * ops.reshape(step, variable.shape))


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix (n, m) with its singular values brought to about 1 (0.7 to 1.2; far smaller ones stay below).

    Five times X ← X (a + b X'X + c (X'X)²), where all polynomials are of the first X'X: their product is built on the
    shorter side alone.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return ops.transpose(orthogonal(ops.transpose(matrix)))
    matrix = matrix / (ops.norm(matrix) + 1e-7)
    square, one = ops.transpose(matrix) @ matrix, ops.eye(matrix.shape[1], dtype=matrix.dtype)
    product = one
    for _ in range(5):
        polynomial = 3.4445 * one - 4.775 * square + 2.0315 * square @ square
        square, product = polynomial @ square @ polynomial, product @ polynomial
    return matrix @ product
