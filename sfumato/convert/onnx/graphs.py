"""What is traced into ONNX graphs: the prior, the denoiser, the way back to images, and steps that are not linear."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from sfumato.convert.onnx.steps import ExportError, Given
from sfumato.core.diffusion import Diffusion
from sfumato.core.distributions import Distribution
from sfumato.core.guidance import classifier_free
from sfumato.core.sampling import Kernel
from sfumato.papers.recipe import Recipe
from sfumato.spaces import Space


class Prior(nn.Module):
    """z -> x, where sampling starts."""

    def __init__(self, prior: Distribution) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, z: Tensor) -> Tensor:
        return self.prior.sample(lambda like: z)


class Decode(nn.Module):
    """x -> images in [-1, 1], by weights beside the network where the space needs any."""

    def __init__(self, space: Space, network: nn.Module) -> None:
        super().__init__()
        self.space, self.network = space, network

    def forward(self, x: Tensor) -> Tensor:
        return self.space.decode(x)


class Predict(nn.Module):
    """(x, t, y, scale) -> x0 and eps, and the output of a variance head: the model's denoiser, guided and clipped."""

    def __init__(self, recipe: Recipe, diffusion: Diffusion, network: nn.Module) -> None:
        super().__init__()
        self.conditioning, self.diffusion, self.network = recipe.conditioning, diffusion, network

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, scale: Tensor | None = None) -> tuple[Tensor, ...]:
        inputs, diffusion = self.conditioning.inputs(y), self.diffusion
        denoise = diffusion.denoise(self.network, inputs)
        if scale is not None:
            without = diffusion.denoise(self.network, self.conditioning.hidden(inputs))
            denoise = classifier_free(denoise, without, scale.reshape(-1, *(1,) * (x.ndim - 1)))
        found = diffusion.clipped(denoise)(x, t)
        return (found.x0, found.eps) if found.variance is None else (found.x0, found.eps, found.variance)


class KernelGraph(nn.Module):
    """A sampler's step that is not linear: (x, t, s, z, x0, eps, variance) -> x at s.

    A model of 2015 with bits or learned levels has its network inside, and is given (x, t, s, z) alone.
    """

    def __init__(self, kernel: Kernel, given: Given | None, network: nn.Module | None, draws: bool) -> None:
        super().__init__()
        self.kernel, self.given, self.network, self.draws = kernel, given, network, draws

    def forward(
        self, x: Tensor, t: Tensor, s: Tensor, z: Tensor,
        x0: Tensor | None = None, eps: Tensor | None = None, variance: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if self.given is not None:
            prediction = {"x0": x0, "eps": eps, "variance": variance}
            self.given.hand([{name: value for name, value in prediction.items() if value is not None}])
        return self.kernel(x, t, s, ()).to.sample(lambda like: z if self.draws else torch.zeros_like(like))


def graph(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> bytes:
    """An ONNX graph of the module for any number of images; inputs that it does not use are left out.

    Raises: ExportError where onnx or onnxscript is missing, or torch cannot write this.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise ExportError('writing ONNX needs onnx and onnxscript: pip install "sfumato[onnx]"') from None
    batch = {0: torch.export.Dim("batch", max=1 << 20)}  # torch 2.6 wants a bound
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(), (), kwargs=dict(inputs), dynamo=True,
                dynamic_shapes=dict.fromkeys(inputs, batch), input_names=list(inputs), output_names=list(outputs),
                verbose=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            reason = error.__cause__ or error
            raise ExportError(
                f"torch {torch.__version__} could not write this as ONNX ({' '.join(str(reason).split())[:200]})"
            ) from error
        assert program is not None
        proto = program.model_proto
    used = {name for node in proto.graph.node for name in node.input} | {out.name for out in proto.graph.output}
    kept = [value for value in proto.graph.input if value.name in used]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    for node in proto.graph.node:  # where in the code it comes from: paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.graph.metadata_props[:]
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def inputs_of(content: bytes, expected: Sequence[str]) -> list[str]:
    """The inputs of a graph, in our order."""
    import onnx

    found = {value.name for value in onnx.load(io.BytesIO(content), load_external_data=False).graph.input}
    return [name for name in expected if name in found]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter speaks of torchvision and of its own deprecations; nobody asked."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
