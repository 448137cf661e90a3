"""``torch.export``: every backbone becomes a program that is saved, loaded and run without this package."""

import pytest
import torch

from .test_onnx import FAMILIES, SIZE, build


@pytest.mark.parametrize('family', FAMILIES)
def test_saved_and_loaded(family, tmp_path):
    model, images = build(family), torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        before = model(images)
        exported = torch.export.export(model, (images,))
        operators = {str(node.target) for node in exported.graph.nodes if node.op == 'call_function'}
        assert not any(name.startswith(('sparsevit_mm', 'mkldnn')) for name in operators)
        torch.export.save(exported, tmp_path / 'backbone.pt2')
        program = torch.export.load(tmp_path / 'backbone.pt2').module()
        other = torch.randn(2, 3, *SIZE)
        for expected, found in ((before, program(images)), (model(other), program(other))):
            for want, got in zip(expected, found):
                torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
        # Nothing of the trace is left behind.
        assert all(torch.equal(want, got) for want, got in zip(before, model(images)))
