"""A search problem without a network: the cost is linear in the sparsity, the accuracy is not."""

WEIGHTS = (4.0, 2.0, 3.0)


def linear_cost(sparsity):
    return 1 + sum(weight * (1 - value) for weight, value in zip(WEIGHTS, sparsity))


def accuracy(sparsity):
    """Between 40 and 60, without ties worth speaking of; the third site hardly minds being sparse."""
    first, second, third = sparsity
    return 60 - 15 * first**2 - 6 * second**1.5 - third - 3 * first * third


def optimum(space, limit):
    """The true best setting within a limit, by trying all."""
    return max((s for s in space if linear_cost(s) <= limit), key=accuracy)


class LinearCost:
    name, unit = 'macs', 'MACs'

    def __init__(self, shape=(64, 64)):
        self.shape, self.calibrated = shape, 0

    def calibrate(self, state=None):
        self.calibrated += state is None
        return state or {'dense': linear_cost((0.0,) * 3)}

    def cost(self, sparsity):
        return linear_cost(sparsity)

    def conditions(self):
        return {'shape': list(self.shape)}
