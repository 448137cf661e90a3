"""What suites are put together from: lengths of training, controls, and the runs of SparseViT's path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..plan import From, Row, Run, Seed, budget_name

__all__ = ['GENTLE', 'SwinPath', 'by_epochs', 'measured', 'size_candidate', 'uniform_controls', 'width_controls']

SPARSITY, START = 'model.backbone.sparsity', 'load_from'
GENTLE = 0.0002  # learning rate of what goes on with trained weights
# Of controls many short rounds: what disturbs a machine for seconds so meets all candidates.
TIMED = {'rounds': 10, 'control_rounds': 30, 'min_round_time': 0.05}


def by_epochs(epochs: int, *, warmup: int = 0, lr: float | None = None) -> dict[str, Any]:
    """Overrides for a training of so many epochs with a linear decay, and iterations of warm-up before it.

    Args:
        epochs: Length.
        warmup: Iterations in which the rate rises.
        lr: Learning rate; that of the config if not given.
    """
    decay = dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=True, begin=0, end=epochs, convert_to_iter_based=True)
    rise = dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup)
    found = {
        'train_cfg.max_epochs': epochs,
        'train_cfg.val_interval': epochs,
        'param_scheduler': [rise, decay] if warmup else [decay],
    }
    return found if lr is None else {**found, 'optim_wrapper.optimizer.lr': lr}


def uniform_controls(step: float = 0.05, greatest: float = 0.9) -> list[dict[str, Any]]:
    """Candidates with one sparsity for all sites."""
    values = [round(step * number, 4) for number in range(2, round(greatest / step) + 1)]
    return [{'label': f'{value:g}', 'overrides': {SPARSITY: value}} for value in values]


def width_controls(widths: Sequence[int]) -> list[dict[str, Any]]:
    """Candidates of a Swin with a neck that have fewer channels; the second to fourth stage have twice as many each."""
    return [
        {
            'label': f'{width} channels',
            'overrides': {
                'model.backbone.embed_dims': width,
                'model.neck.in_channels': [width * 2**stage for stage in range(4)],
            },
        }
        for width in widths
    ]


def size_candidate(shape: tuple[int, int], scale: tuple[int, int], places: Mapping[str, int]) -> dict[str, Any]:
    """A candidate with smaller pictures.

    Args:
        shape: Height and width that the network gets.
        scale: Width and height that pictures are resized to.
        places: For each split the place of the resizing in its pipeline.
    """
    overrides = {f'{split}_dataloader.dataset.pipeline.{place}.scale': scale for split, place in places.items()}
    return {'label': f'{scale[1]}x{scale[0]}', 'shape': shape, 'overrides': overrides}


@dataclass(frozen=True)
class SwinPath:
    """The runs of SparseViT and of its controls, for one dense config and those of its steps.

    Args:
        dense: Config of the dense model.
        adapt: Config of the adaptation.
        search: Config of the search.
        tune: Config of the training at a sparsity.
        shape: Height and width in pixels.
        common: Overrides of all of them.
        test: Options of what is tested, see :func:`sparsevit_mm.experiments.jobs.training.train_run`.
        searching: Options of a search.
        longer: Overrides of a training that goes on with the dense weights for as long as adaptation and fine-tuning
            take together.
        anew: Overrides of a training from nothing for as long as all steps take together.
    """

    dense: str
    adapt: str
    search: str
    tune: str
    shape: tuple[int, int]
    common: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)
    searching: Mapping[str, Any] = field(default_factory=dict)
    longer: Mapping[str, Any] = field(default_factory=dict)
    anew: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tested(self) -> dict[str, Any]:
        """Options of a run that is tested."""
        return {'shape': self.shape, **self.test}

    def calibrated(self, budgets: Sequence[float], controls: Mapping[str, Any], **options: Any) -> Run:
        """The run that budgets get their meaning from."""
        options = {'shape': self.shape, 'budgets': tuple(budgets), 'controls': controls, **TIMED, **options}
        return Run('calibrate', 'calibrate', self.dense, self.common, options=options, seeded=False)

    def trained(self) -> tuple[Run, ...]:
        """Dense, adapted, and dense trained as long as what is fine-tuned."""
        return (
            Run('dense', 'train', self.dense, self.common, options=self.tested, row=Row('dense')),
            Run('adapt', 'train', self.adapt, {**self.common, START: From('dense', 'checkpoint')}, options=self.tested),
            Run(
                'longer',
                'train',
                self.dense,
                {**self.common, **self.longer, START: From('dense', 'checkpoint')},
                options=self.tested,
                row=Row('dense, trained as long'),
            ),
        )

    def searched(self, budget: float, weights: str, name: str) -> Run:
        """A search on the weights of a run."""
        at = {'budget': budget, 'checkpoint': From(weights, 'checkpoint'), 'table': From('calibrate', 'table')}
        return Run(f'{name}-{_short(budget)}', 'search', self.search, self.common, options={**at, **self.searching})

    def tuned(
        self, budget: float, name: str, label: str, start: str, sparsity: From | None, more: Mapping[str, Any] = {}
    ) -> Run:
        """A training at a sparsity, or at what the calibration has found if it is None."""
        overrides = {**self.common, START: From(start, 'checkpoint'), **more}
        adopt = None if sparsity is not None else From('calibrate', 'uniform', budget_name(budget))
        if sparsity is not None:
            overrides[SPARSITY] = sparsity
        row = Row(label, budget)
        name = f'{name}-{_short(budget)}'
        return Run(name, 'train', self.tune, overrides, adopt=adopt, options=self.tested, row=row)

    def overfitted(
        self, budget: float, sizes: Sequence[Mapping[str, Any]], epochs: tuple[int, int, int], warmup: int
    ) -> tuple[Run, ...]:
        """Dense against uniform sparsity and a smaller input, where what is trained is also what is tested.

        There is no search, which takes training pictures that are not reported.

        Args:
            budget: Fraction of the dense latency.
            sizes: Candidates of the smaller input.
            epochs: Of the dense training, the adaptation and the fine-tuning.
            warmup: Iterations of the dense one.
        """
        lengths = dict(zip(('dense', 'adapt', 'uniform'), epochs))
        dense, adapt, longer = self.trained()
        uniform = self.uniform(budget)

        def lasting(run: Run, **options: Any) -> Run:
            return replace(
                run, overrides={**run.overrides, **by_epochs(lengths[run.name.partition('-')[0]], **options)}
            )

        return (
            self.calibrated((budget,), {'uniform': uniform_controls(), 'size': sizes}, check=10),
            lasting(dense, warmup=warmup),
            lasting(adapt, lr=GENTLE),
            lasting(uniform, lr=GENTLE),
            longer,
            self.control(budget, 'size', 'smaller input', from_dense=True),
            measured(self.dense, rounds=15),
        )

    def found(self, budget: float) -> tuple[Run, ...]:
        """Search on adapted weights, fine-tuning at what it found, and the same without fine-tuning."""
        search = self.searched(budget, 'adapt', 'search')
        return (
            search,
            self.tuned(budget, 'found', 'SparseViT', 'adapt', From(search.name, 'sparsity')),
            self.tested_as_is(budget, 'untuned', 'SparseViT, not fine-tuned', 'adapt', search.name),
        )

    def tested_as_is(self, budget: float, name: str, label: str, weights: str, search: str) -> Run:
        """Weights at a sparsity that they were not trained for."""
        overrides = {**self.common, SPARSITY: From(search, 'sparsity')}
        options = {**self.tested, 'checkpoint': From(weights, 'checkpoint')}
        name = f'{name}-{_short(budget)}'
        return Run(name, 'evaluate', self.dense, overrides, options=options, row=Row(label, budget))

    def uniform(self, budget: float) -> Run:
        """One sparsity for all sites, adapted and fine-tuned alike."""
        return self.tuned(budget, 'uniform', 'uniform sparsity', 'adapt', None)

    def random(self, budget: float) -> Run:
        """The sparsity that was found, with windows chosen by chance."""
        selector = {'type': 'sparsevit_mm.RandomSelector', 'seed': Seed()}
        found = From(f'search-{_short(budget)}', 'sparsity')
        return self.tuned(budget, 'random', 'random windows', 'adapt', found, {'model.backbone.selector': selector})

    def reranked(self, budget: float) -> Run:
        """The sparsity that was found, with windows that are scored again before each site."""
        found = From(f'search-{_short(budget)}', 'sparsity')
        anew = {'model.backbone.ranking': 'site'}
        return self.tuned(budget, 'reranked', 'ranked at each site', 'adapt', found, anew)

    def distilled(self, budget: float) -> Run:
        """The sparsity that was found, with the adapted model at sparsity 0 as the teacher of the fine-tuning."""
        found = From(f'search-{_short(budget)}', 'sparsity')
        teacher = {'custom_hooks': [dict(type='sparsevit_mm.DistillationHook', teacher='self')]}
        return self.tuned(budget, 'distilled', 'SparseViT, distilled', 'adapt', found, teacher)

    def free(self, budget: float) -> tuple[Run, ...]:
        """Search on the dense weights, tested as they are; and trained at it without adaptation for as long."""
        search = self.searched(budget, 'dense', 'search-free')
        found = From(search.name, 'sparsity')
        return (
            search,
            self.tested_as_is(budget, 'free', 'searched, not trained', 'dense', search.name),
            self.tuned(budget, 'unadapted', 'not adapted', 'dense', found, self.longer),
        )

    def dense_start(self, budget: float, weights: str) -> Run:
        """The sparsity that was found, fine-tuned from dense weights in the place of adapted ones."""
        found = From(f'search-{_short(budget)}', 'sparsity')
        return self.tuned(budget, 'dense-start', 'SparseViT, dense in the place of adapted', weights, found)

    def control(self, budget: float, name: str, label: str, *, from_dense: bool) -> Run:
        """A dense model that takes as long: one of the candidates of the calibration.

        Args:
            budget: Fraction of the dense latency.
            name: Of the control.
            label: Of the row.
            from_dense: Whether the weights of the dense model fit and are the start.
        """
        start = {**self.longer, START: From('dense', 'checkpoint')} if from_dense else self.anew
        chosen = From('calibrate', name, budget_name(budget))
        shape = From(chosen.run, *chosen.path, 'shape') if from_dense else self.shape
        options = {**self.tested, 'shape': shape}
        overrides = {**self.common, **start}
        name = f'{name}-{_short(budget)}'
        return Run(name, 'train', self.dense, overrides, adopt=chosen, options=options, row=Row(label, budget))


def measured(config: str, **options: Any) -> Run:
    """The run that times all rows; the config only gives it a file of its own."""
    return Run('measure', 'measure', config, options=options, seeded=False)


def _short(budget: float) -> str:
    """For names: ``65``."""
    return f'{budget * 100:g}'
