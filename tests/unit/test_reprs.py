"""What a notebook prints of a result is short, however much the result holds."""

from __future__ import annotations

import numpy as np
import torch

import ditlens as dl
from ditlens.lens.interventions import Where
from ditlens.lens.site import Site
from ditlens.lens.study.run import plan_study
from ditlens.metrics.factors import FactorTable
from ditlens.metrics.networks import ImagePair


def test_a_plan_of_many_prompts(portraits):
    prompts = [f"a portrait number {k}" for k in range(500)]
    carriers = {"carrier": [k % 20 for k in range(500)]}
    plan = plan_study(
        portraits, prompts, range(500), ["joint.0.image.in", "joint.*.image.out"], steps=[0, 1, 2, 7],
        dtype="float16", tokens={"image": [3, 4, 9]}, columns=carriers, sampling_steps=8,
        reduce=None, images=False, paired=True,
    )  # fmt: skip
    assert repr(plan).splitlines() == [
        f"Plan of a study of {portraits.name}: 500 prompts, a seed each: 500 items",
        "  sites joint.0.image.in, joint.*.image.out",
        "  steps 0-2, 7 of 8, passes cond",
        "  keeps 3 image tokens, float16; no images",
        "  columns carrier",
    ]
    assert repr(plan_study(portraits, "a man", 0, "joint.0.image.out")).startswith(
        f"Plan of a study of {portraits.name}: 1 prompt, 1 seed: 1 item\n"
    )


def test_what_holds_arrays(portraits):
    made = dl.design(portraits.world, 40, seed=0)
    assert len(repr(made)) < 1000 and repr(made).startswith(
        "Design of 40 prompts, a seed each; columns carrier, "
    )
    assert made.prompts[0] in repr(made) and made.prompts[1] not in repr(made)
    with dl.capture(portraits, "joint.1.image.out", steps=0) as cache:
        portraits.sample(["a smile", "a frown"], [0, 1], steps=1)
    part = next(cache.parts())
    assert repr(part) == "Part: joint.1.image.out, step 0, cond, images 0-1, 2 x 64 x 64"
    basis = dl.PCA(2).fit(np.diag([3.0, 2.0, 1.0])).basis()
    assert repr(basis) == "Basis of 3 rows: 2 components x 3, which explain 75 % + 25 %"
    pixels = torch.zeros(1, 3, 2, 2)
    assert repr(ImagePair(pixels, pixels, None, "a hat")) == "ImagePair(text='a hat')"
    assert repr(FactorTable(np.eye(2), np.eye(2), (True, False))) == "FactorTable(discrete=(True, False))"
    site = Site.parse("joint.0.text.out")
    assert repr(Where(site, 0, "cond", mask=torch.ones(2, 77) > 0, entering=torch.ones(2, 77, 64))).endswith(
        "run=0)"
    )
