from sparsevit_mm.search import Evaluation, best_of, front_of


def evaluation(cost, accuracy, feasible=True, number=0):
    return Evaluation(number, (0.5, 0.5), accuracy, cost, feasible)


def test_front_has_no_dominated_setting():
    a, b, c = evaluation(1, 10), evaluation(2, 20), evaluation(3, 30)
    dominated = [evaluation(2, 15), evaluation(3, 20), evaluation(4, 30)]
    assert front_of([*dominated, c, a, b]) == [a, b, c]


def test_front_where_lower_is_better():
    a, b = evaluation(1, 3.0), evaluation(2, 2.0)
    assert front_of([evaluation(2, 2.5), b, a], higher_is_better=False) == [a, b]


def test_best_is_within_the_budget_and_the_cheaper_of_equals():
    cheap, dear, over = evaluation(1, 20), evaluation(2, 20), evaluation(3, 30, feasible=False)
    assert best_of([dear, over, cheap]) is cheap
    assert best_of([over]) is None
    assert best_of([evaluation(1, 3.0), evaluation(2, 2.0)], higher_is_better=False).accuracy == 2.0
