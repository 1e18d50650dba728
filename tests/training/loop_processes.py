"""What two processes do in the tests: whole trainings, and the parts of the loop on a sharded trainee.

torchrun --nproc_per_node 2 loop_processes.py trainings JOBS.json     a list of {output, config, data: [name, count], resume, stop_at}
torchrun --nproc_per_node 2 loop_processes.py sharded FOLDER          FOLDER/base is the base; writes FOLDER/found.json
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import loop_worlds
import torch
from torch.distributed.fsdp import FSDPModule, fully_shard

from preferent.core.errors import FitError
from preferent.models.reward_model import RewardModel
from preferent.training import state
from preferent.training.config import TrainConfig, load_config
from preferent.training.groups import group_records
from preferent.training.objective import summed_loss, weight_of
from preferent.training.observer import Observer
from preferent.training.prepare import prepare
from preferent.training.run import train
from preferent.training.trainee import Trainee, trainee_of


class Stop(Observer):
    """SIGTERM to the main process only, after a step."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def stepped(self, row: Any) -> None:
        if row["step"] == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def trainings(jobs: Path) -> None:
    for job in json.loads(jobs.read_text()):
        name, count = job["data"]
        data = [getattr(loop_worlds, name)(count, seed=seed) for seed in (0, 1)]
        try:
            config, observer = load_config(None, job["config"]), Stop(job.get("stop_at"))
            train(data[0], data[1], config, job["output"], resume=job.get("resume", False), observer=observer)
        except FitError as error:
            # Of every process, so that none was left waiting.
            rank = torch.distributed.get_rank()
            Path(job["output"], f"error-{rank}").write_text(str(error))


def steps(trainee: torch.nn.Module, optimizer: torch.optim.Optimizer, model: RewardModel, config: TrainConfig, *, n: int) -> list[float]:
    """n optimiser steps over the same groups, shared out over the processes if the trainee is sharded; the loss of each."""
    groups = prepare(model, group_records(loop_worlds.clumped(6))).groups
    is_sharded = isinstance(trainee, FSDPModule)
    world, mine = (2, groups[torch.distributed.get_rank() :: 2]) if is_sharded else (1, groups)
    found = []
    for _ in range(n):
        outputs = trainee(model.pack([[ids.tolist() for ids in item.ids] for item in mine]))
        loss = summed_loss(outputs, mine, config.loss) / weight_of(groups, config.loss)
        (loss * world).backward()
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach().clone()
        if is_sharded:
            torch.distributed.all_reduce(total)
        found.append(total.item())
    return found


def fresh(folder: Path, config: TrainConfig, *, shard: bool) -> tuple[RewardModel, Trainee, torch.optim.Optimizer]:
    """A trainee with a tie parameter, whole or sharded as accelerate's FSDP2 does it: each decoder layer, then the root."""
    from torch.distributed.device_mesh import init_device_mesh

    model = RewardModel.create(str(folder / "base"))
    trainee = trainee_of(model, config)
    if shard:
        mesh = init_device_mesh("cpu", (2,))
        for layer in model.module.model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(trainee, mesh=mesh)
    return model, trainee, torch.optim.AdamW(trainee.parameters(), lr=1e-2)


def sharded(folder: Path) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    torch.distributed.init_process_group("gloo")
    config = load_config(None, {"base": "any", "loss.kind": "davidson"})
    found: dict[str, Any] = {}
    model, whole, whole_optimizer = fresh(folder, config, shard=False)
    shard_model, shard, shard_optimizer = fresh(folder, config, shard=True)
    prepared = prepare(model, group_records(loop_worlds.clumped(6)))
    batch = model.pack([[ids.tolist() for ids in item.ids] for item in prepared.groups])
    found["shared tokens"] = sum(len(sequence) for sequence in batch.sequences) - batch.n_tokens
    with torch.no_grad():
        found["rewards"] = float((whole(batch)[0] - shard(batch)[0]).abs().max())
    whole_losses = steps(whole, whole_optimizer, model, config, n=6)
    shard_losses = steps(shard, shard_optimizer, shard_model, config, n=3)
    # Through the files of a state, as a resumed run goes, into a trainee that is sharded anew.
    tensors = state.capture(shard, shard_optimizer)
    if torch.distributed.get_rank() == 0:
        state.write_state(folder / "state", tensors, {})
    torch.distributed.barrier()
    again_model, again, again_optimizer = fresh(folder, config, shard=True)
    state.restore(again, again_optimizer, state.read_state(folder / "state")[0])
    shard_losses += steps(again, again_optimizer, again_model, config, n=3)
    found["losses"] = max(abs(a - b) for a, b in zip(whole_losses, shard_losses, strict=True))
    found["fall"] = whole_losses[0] - whole_losses[-1]
    # The best weights of early stopping go back into the trainee that has moved on.
    back = state.read_state(folder / "state")[0]
    steps(shard, shard_optimizer, shard_model, config, n=1)
    state.restore_weights(shard, back)
    now = state.capture(shard, shard_optimizer)
    found["best"] = max(float((now[name] - back[name]).abs().max()) for name in now if name.startswith("model/")) if now else 0.0
    # As at the end of a run: gathered on the main process, into a trainee built anew.
    weights = get_model_state_dict(again, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if torch.distributed.get_rank() == 0:
        _, gathered, _ = fresh(folder, config, shard=False)
        gathered.load_state_dict(weights)
        pairs = zip(whole.named_parameters(), gathered.named_parameters(), strict=True)
        found["weights"] = max(float((a - b).abs().max()) for (_, a), (_, b) in pairs)
        (folder / "found.json").write_text(json.dumps(found))
    # As the loop ends: a process that leaves while the other still computes now and then aborts in gloo's threads at its exit.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"trainings": trainings, "sharded": sharded}[sys.argv[1]](Path(sys.argv[2]))
    # As the command leaves (cli/main.py): gloo's threads abort now and then in the teardown of a process that ends before the other.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
