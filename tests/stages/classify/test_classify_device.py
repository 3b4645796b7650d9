"""Where the stage's models run: what a recipe may ask for, and what the engine is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.classifiers import encoders, load, tensor_file
from curate.pipeline.errors import UsageError
from curate.pipeline.recipe import load_recipe
from curate.pipeline.stage import File, Planning, Shard
from curate.stages.classify import STAGE, ClassifyConfig


def embedding_model(folder: Path, encoder: str) -> str:
    """A model whose header names an encoder."""
    about = {
        "format": "curate.embedding/1", "name": "lesson", "version": "1", "labels": ["lesson"], "scale": [0.0, 1.0],
        "settings": {}, "encoder": {"name": encoder, "fingerprint": "f" * 64, "max_tokens": 16, "pooling": "mean"},
    }  # fmt: skip
    path = folder / "lesson.safetensors"
    path.write_bytes(
        tensor_file.pack(about, {"weights": np.zeros((4, 1), np.float32), "bias": np.zeros(1, np.float32)})
    )
    return str(path)


def gpus_of_workers(step: str, config: ClassifyConfig) -> set[float]:
    shards = (Shard("crawl/a", File("a.parquet", "a")), Shard("crawl/b", File("b.parquet", "b")))
    (wanted,) = (each for each in STAGE.steps if each.name == step)
    return {task.gpus for task in wanted.plan(Planning("classify", step, config, 0, shards, {}))}


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        ({}, 0),
        ({"device": "cpu"}, 0),
        ({"device": "cuda"}, 1),
        ({"device": "cuda", "gpus": 0.25}, 0.25),
        ({"gpus": 0.5}, 0.5),
    ],
)
def test_a_worker_holds_the_gpus_that_the_recipe_asks_for(tmp_path: Path, asked: dict[str, Any], gpus: float) -> None:
    config = ClassifyConfig(edu=embedding_model(tmp_path, "minilm"), **asked)
    assert gpus_of_workers("score", config) == {gpus}


def test_where_models_run_runs_nothing_again(tmp_path: Path) -> None:
    model = embedding_model(tmp_path, "minilm")
    on_gpu, on_processor = ClassifyConfig(edu=model, device="cuda", gpus=0.5), ClassifyConfig(edu=model)
    assert on_gpu.fingerprint() == on_processor.fingerprint()


@pytest.mark.parametrize(
    ("encoder", "section", "message"),
    [
        ("minilm", "{edu: MODEL, device: gpu}", "classify.device"),
        ("minilm", "{edu: MODEL, device: cuda, gpus: 2}", "classify.gpus"),
        ("minilm", "{edu: MODEL, device: cuda, gpus: 0}", "classify.gpus"),
        ("minilm", "{edu: MODEL, device: cpu, gpus: 1}", "gpus: device is cpu, which needs none"),
        ("minilm", "{device: cuda}", "device: it is cuda, but no classifier here can run on a GPU"),
        ("minilm-int8", "{edu: MODEL, device: cuda}", "device: it is cuda, but no classifier here can run on a GPU"),
        ("minilm-int8", "{edu: MODEL, gpus: 1}", "gpus: they are asked for, but no classifier here can run on a GPU"),
    ],
)
def test_a_device_that_makes_no_sense_is_refused_before_any_work(
    tmp_path: Path, encoder: str, section: str, message: str
) -> None:
    model = embedding_model(tmp_path, encoder)
    (tmp_path / "recipe.yaml").write_text(f"classify: {section.replace('MODEL', model)}")
    with pytest.raises(UsageError) as caught:
        load_recipe(str(tmp_path / "recipe.yaml"), {"classify": ClassifyConfig})
    assert message in str(caught.value)


def test_the_stage_loads_its_models_for_the_recipes_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.stages.classify import scoring

    asked = set()
    monkeypatch.setattr(scoring, "load", lambda name, device: asked.add(device) or load("math"))
    scoring._load(ClassifyConfig(edu=embedding_model(tmp_path, "minilm"), topic=None, device="cuda"))
    assert asked == {"cuda"}


def test_cuda_without_a_gpu_is_refused_and_auto_is_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "gpu", lambda: False)
    with pytest.raises(UsageError, match=r"^device is cuda, but torch .*$"):
        encoders.on_gpu("cuda")
    assert not encoders.on_gpu("auto")
    monkeypatch.setattr(encoders, "gpu", lambda: True)
    assert encoders.on_gpu("auto")
    assert not encoders.on_gpu("cpu")
