"""Files of tensors, written one at a time, are those of safetensors' own writer."""

from __future__ import annotations

import errno
import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from curate.pipeline.errors import DiskFull
from curate.pipeline.workspace import Output, Workspace
from curate.pretrain.tensors import NAMES, read_tensors, write_tensors

shapes = st.lists(st.integers(0, 3), max_size=3)
names = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=8)


@settings(max_examples=60)
@given(
    st.dictionaries(names.filter(lambda name: name != "__metadata__"), st.tuples(st.sampled_from(list(NAMES)), shapes))
)
def test_the_bytes_are_those_of_the_library(tmp_path_factory, kinds):
    place = Workspace(tmp_path_factory.mktemp("w"))
    tensors = {name: (torch.rand(shape) * 5).to(dtype) for name, (dtype, shape) in kinds.items()}
    facts = write_tensors(place, "a.safetensors", tensors)
    with place.open("a.safetensors") as stream:
        data = stream.read()
    assert load(data).keys() == tensors.keys()
    for name, value in read_tensors(place.path("a.safetensors")):
        assert value.dtype == tensors[name].dtype
        assert torch.equal(value, tensors[name])
    assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if all(dtype.is_floating_point for dtype, _ in kinds.values()) and len({dtype for dtype, _ in kinds.values()}) <= 1:
        assert data == save(tensors)


def test_a_full_disk_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    write = Output.write

    def full(self, data):
        if self.size > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Output, "write", full)
    place = Workspace(tmp_path)
    with pytest.raises(DiskFull):
        write_tensors(place, "a.safetensors", {str(number): torch.zeros(200) for number in range(5)})
    assert list(tmp_path.iterdir()) == []
