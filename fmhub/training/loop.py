"""The one training loop, read from top to bottom.

A step is: the batch that (seed, epoch, index) names; parts of it that fit the budget, forward and backward; gradients
summed over processes and divided by the weight of the whole step; clipping; one optimiser step. Everything random is
seeded by (seed, step, process), so that a run resumed at any step goes on as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from accelerate.optimizer import AcceleratedOptimizer

from fmhub.backbones.adapter import pulled, trainable
from fmhub.backbones.products import fast_products
from fmhub.errors import FmhubError
from fmhub.recipe import Recipe
from fmhub.training import checkpoint as checkpoints
from fmhub.training import ranks
from fmhub.training.batching import epoch_batches, evaluation_batches, parts
from fmhub.training.checkpoint import Progress
from fmhub.training.network import Network, Part, select

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT_SECONDS = 15.0


class Reading(NamedTuple):
    """What validation says of a step: a score, higher is better, and its standard error."""

    score: float
    error: float = 0.0


Log = Callable[[int, int, dict[str, float], float], None]
"""Called with (step, total steps, values, steps a second)."""


def fit(
    network: Network, train: Part, judge: Callable[[], Reading] | None, *, accelerator: Accelerator, checkpoint: Path | None, log: Log
) -> Progress:
    """Train `network` in place and leave it at the step that `judge` (validation) chooses, see `_remember`, or at the last.

    Goes on from `checkpoint` where that file exists (None: nothing is kept). Raises `FmhubError` when the loss is no longer a number.
    """
    recipe, named = network.recipe, trainable(network)
    optimiser = _optimiser(named, recipe)
    stepper: Any = AcceleratedOptimizer(optimiser, scaler=accelerator.scaler) if accelerator.scaler else optimiser
    names = [name for group in optimiser.param_groups for name in group["names"]]
    plan = Schedule(train.encoded.lengths, recipe, train.encoded.alike)
    progress, best = _resume(checkpoint, named, optimiser, names, accelerator)
    loss, weight = torch.zeros((), device=accelerator.device), torch.zeros((), device=accelerator.device)
    first, began = progress.step, time.monotonic()
    saved = started = began

    network.train()
    while progress.step < plan.total and not progress.finished:
        for group in optimiser.param_groups:
            group["lr"] = plan.lr(progress.step)
        step_loss, step_weight = step_gradients(network, train, plan, progress.step, accelerator, list(named.values()))
        accelerator.unscale_gradients(stepper)  # half precision scales the loss; the line above has summed scaled gradients
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(named.values(), recipe.clip)
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        if recipe.l1:
            _shrink(named, recipe.l1 * plan.lr(progress.step))
        loss, weight = loss + step_loss, weight + step_weight
        progress.examples += len(plan.rows(progress.step))
        progress.step += 1

        reading = progress.step in plan.readings
        if reading or progress.step % 10 == 0:
            value = float(loss / weight)
            if not math.isfinite(value):
                raise FmhubError(f"The training loss is {value} at step {progress.step}: lower recipe.lr (now {recipe.lr:g}).")
            values = {"loss": value, "lr": plan.lr(progress.step - 1), "epoch": progress.step / plan.steps_per_epoch}
            loss, weight = loss * 0, weight * 0
            if reading and judge is not None:
                found = judge()
                network.train()  # which it is not while it predicts
                values["validation"] = found.score
                best = _remember(progress, found, named, best, recipe)
                progress.history.append({"step": progress.step, **values})
            log(progress.step, plan.total, values, (progress.step - first) / (time.monotonic() - began))
        now = time.monotonic()
        if reading or now - saved > CHECKPOINT_SECONDS:
            progress.seconds, started, saved = progress.seconds + now - started, now, now
            if checkpoint is not None and accelerator.is_main_process:
                groups: dict[str, dict[str, torch.Tensor]] = {
                    "model": dict(named),
                    "best": best,
                    **checkpoints.optimiser_groups(optimiser, names),
                    **checkpoints.scaler_group(accelerator.scaler),
                }
                checkpoints.save(checkpoint, progress, groups)
    with torch.no_grad():
        for name, tensor in best.items():
            named[name].copy_(tensor)
    network.eval()
    return progress


class Schedule:
    """Steps, batches, readings and learning rates of a run, as functions of the step.

    `alike` examples are not sorted by length: `parts` pads none of them, and a step of short ones alone would weigh as much as one
    of long ones.
    """

    def __init__(self, lengths: np.ndarray, recipe: Recipe, alike: bool = False) -> None:
        self.recipe, self.lengths = recipe, np.ones_like(lengths) if alike else lengths
        self.steps_per_epoch = math.ceil(math.ceil(len(lengths) / recipe.batch) / recipe.accumulate)
        self.total = max(1, round(recipe.epochs * self.steps_per_epoch)) if recipe.epochs else 0
        every = self.steps_per_epoch / recipe.evaluations
        self.readings = {round(every * i) for i in range(1, math.ceil(self.total / every) + 1)} | {self.total}
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])

    def rows(self, step: int) -> np.ndarray:
        """Row numbers of one step's examples."""
        return np.concatenate(self.batches(step))

    def batches(self, step: int) -> list[np.ndarray]:
        """The batches whose gradients make one step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, epoch_batches(self.lengths, self.recipe.batch, self.recipe.seed, epoch))
        return self._epoch[1][index * self.recipe.accumulate : (index + 1) * self.recipe.accumulate]

    def lr(self, step: int) -> float:
        """Linear warm-up over the recipe's share of all steps, then its schedule down to 0."""
        warm = round(self.recipe.warmup * self.total)
        if step < warm:
            return self.recipe.lr * (step + 1) / (warm + 1)
        left = (self.total - step) / max(1, self.total - warm)
        shape = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}
        return self.recipe.lr * shape[self.recipe.schedule]


@fast_products()
def step_gradients(
    network: Network, train: Part, plan: Schedule, step: int, accelerator: Accelerator, parameters: list[torch.nn.Parameter]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave the step's mean gradient in the parameters; return the sum of its losses and of their weights."""
    recipe, rank, world = network.recipe, accelerator.process_index, accelerator.num_processes
    seed = np.random.SeedSequence([recipe.seed, step, rank])
    torch.manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
    random = np.random.default_rng(seed) if recipe.augment else None
    total = weight = torch.zeros((), device=accelerator.device)
    count = len(plan.rows(step))
    for batch in plan.batches(step):
        for rows in parts(batch[rank::world], train.encoded.lengths, recipe.budget, train.encoded.alike):
            assert train.targets is not None
            with accelerator.autocast():
                outputs = network.outputs(train, rows, random)
                loss, size = network.head_spec.loss(outputs, select(train.targets, rows, accelerator.device), recipe)
            # dividing by the count here and by weight / count below keeps half-precision gradients in range
            accelerator.backward(loss / count)
            total, weight = total + loss.detach(), weight + size.detach()
    gradients = [parameter.grad if parameter.grad is not None else torch.zeros_like(parameter) for parameter in parameters]
    if world > 1:
        flat = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients] + [total[None], weight[None]]), "sum")
        total, weight = flat[-2], flat[-1]
        pieces = flat[:-2].split([gradient.numel() for gradient in gradients])
        gradients = [piece.view_as(gradient) for piece, gradient in zip(pieces, gradients, strict=True)]
    torch._foreach_mul_(gradients, count / weight)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return total, weight


def _optimiser(named: dict[str, torch.nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); only what is `pulled` decays, no biases, norms or scales."""
    groups: list[dict[str, Any]] = []
    decaying = pulled(named)
    for decay in (True, False):
        chosen = {name: parameter for name, parameter in named.items() if (name in decaying) == decay}
        if chosen:
            groups.append({"params": list(chosen.values()), "names": list(chosen), "weight_decay": recipe.weight_decay * decay})
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)


@torch.no_grad()
def _shrink(named: dict[str, torch.nn.Parameter], amount: float) -> None:
    """L1 as a proximal step (Parikh & Boyd 2014, section 6.5.2): matrices move towards 0 and stop there, so that an adapter gets sparse."""
    for parameter in pulled(named).values():
        parameter.copy_(torch.nn.functional.softshrink(parameter, amount))


def _resume(
    path: Path | None, named: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer, names: list[str], accelerator: Accelerator
) -> tuple[Progress, dict[str, torch.Tensor]]:
    found = None if path is None else ranks.from_first(lambda: checkpoints.load(path))
    checkpoints.restore_scaler(accelerator.scaler, found[1] if found else {})
    if found is None:
        return Progress(), {}
    progress, groups = found
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(groups["model"][name])
    checkpoints.restore_optimiser(optimiser, names, groups)
    return progress, groups.get("best", {})


def _remember(
    progress: Progress, found: Reading, named: dict[str, torch.nn.Parameter], best: dict[str, torch.Tensor], recipe: Recipe
) -> dict[str, torch.Tensor]:
    """Keep the tensors of the latest reading within one standard error of the best one, or of the last; say when patience has run out.

    The rule of one standard error (Breiman et al. 1984, 3.4.3): of readings that validation cannot tell apart, the highest is luck,
    and the latest has learnt most.
    """
    if progress.best is None or found.score > progress.best or recipe.keep == "last":
        progress.best, progress.error, progress.worse = found.score, found.error, 0
    else:
        progress.worse += 1
        progress.finished = bool(recipe.patience) and progress.worse >= recipe.patience
        if found.score < progress.best - progress.error:
            return best
    progress.best_step = progress.step
    return {name: parameter.detach().clone() for name, parameter in named.items()}


@torch.inference_mode()
@fast_products()
def predict(network: Network, part: Part, accelerator: Accelerator) -> dict[str, list[Any]]:
    """What the head says of every row, in the rows' order, computed longest first and shared among processes."""
    network.eval()
    batches = evaluation_batches(part.encoded.lengths, network.recipe.budget, part.encoded.alike)
    rows: list[int] = []
    columns: dict[str, list[Any]] = {}
    for batch in batches[accelerator.process_index :: accelerator.num_processes]:
        with accelerator.autocast():
            outputs = network.outputs(part, batch)
        rows += batch.tolist()
        for name, values in network.head_spec.decode(outputs).items():
            columns.setdefault(name, []).extend(values)
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        gathered = gather_object([(rows, columns)])
        rows = [row for some, _ in gathered for row in some]
        names = sorted({name for _, one in gathered for name in one})
        columns = {name: [value for _, one in gathered for value in one.get(name, [])] for name in names}
    order = np.argsort(rows)
    return {name: [values[i] for i in order] for name, values in columns.items()}
