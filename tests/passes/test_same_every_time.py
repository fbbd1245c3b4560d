"""The same model gives the same module in every process, open dims included: TVM's sets have orders of their own."""

from __future__ import annotations

import os
import sys

from children import check_child

CODE = """
    import hashlib, sys
    sys.path[:0] = sys.argv[1].split(":")
    import tvm
    from conv_cases import Conv
    from pass_graphs import const, data, emit, graph
    from tvm import relax
    from onnxkiln import targets
    from onnxkiln.passes.lift_weights import lift_weights
    from onnxkiln.passes.lower import lowering
    from onnxkiln.passes.pipeline import Pipeline

    O = relax.op
    first, second = Conv(3, 16, (3, 3), (2, 2), (1, 1, 1, 1)), Conv(16, 16, (3, 3), (2, 2), (1, 1, 1, 1))
    weights = [case.weight() for case in (first, second)]

    def network(x):
        n, _, h, w = x.ty.shape.values
        y = emit(O.nn.relu(first.op(x, weights[0])))
        z = emit(O.nn.relu(O.add(second.op(y, weights[1]), const(data(1, 16, 1, 1)))))
        pooled = emit(O.add(O.mean(z, [2, 3], keepdims=True), const(data(1, 16, 1, 1))))
        gate = emit(O.divide(O.exp(O.multiply(z, pooled)), O.add(O.exp(z), const(data(16, 1, 1)))))
        flat = emit(O.reshape(emit(O.permute_dims(gate, [0, 2, 3, 1])), [-1, 16]))
        return [O.nn.softmax(flat), O.broadcast_to(pooled, [n, 16, h, w]), O.reshape(x, [n, h * w * 3])]

    host = targets.parse("cpu:x86-64-v3")[0]
    mod, _ = lift_weights(Pipeline("O2").optimize(graph(network, ("n", 3, "h", "w")), host))
    with tvm.target.Target(host.tvm_json()):
        mod = lowering()(mod)
    print(hashlib.sha256(mod.script(show_meta=False).encode()).hexdigest())
"""


def test_a_module_with_open_dims_is_the_same_in_every_process() -> None:
    path = ":".join(sys.path)
    digests = [check_child(CODE, path, env={**os.environ, "PYTHONHASHSEED": seed}) for seed in ("0", "1", "2")]
    assert len(set(digests)) == 1
