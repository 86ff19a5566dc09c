"""What exercises accept and refuse besides their own solution and stub.

Every wrong answer here is one that a check could take for right; every right one is another than the solution.
"""

from __future__ import annotations

import pytest

from sfumato.learn.catalogue import CATALOGUE
from sfumato.learn.workshop import WORKSHOP

EXERCISES = {exercise.key: exercise for lesson in CATALOGUE for exercise in lesson.exercises}

WRONG = [
    ("first_picture.1", "def sample(x, moves):\n    for k, t, s in moves:\n        x = k(x, t, s).to.mean\n"
     "    return x"),
    ("first_picture.2", "def pixels(x):\n    return ((x + 1) * 127.5).round().to(torch.uint8)"),
    ("noise.3", "def score(x, x0, alpha, sigma):\n    return (alpha * x0 - x) / sigma"),
    ("ncsn.2", "def langevin(x, score, d, z):\n    return x + 3 * d * score + math.sqrt(6 * d) * z"),
    ("ncsn.2", "def langevin(x, score, d, z):\n    return x + d / 2 * score + math.sqrt(d) * z"),
    ("ncsn.2", "def langevin(x, score, d, z):\n    return x + d * score + math.sqrt(d) * z"),
    ("ncsn.3", "def size(sigma, last, eps):\n    return 2 * eps * (sigma / last) ** 2"),
    ("ddim.1", "def sigma(eta, a, b):\n    return eta * math.sqrt(1 - a / b)"),
    ("ddim.1", "def sigma(eta, a, b):\n    return eta ** 2 * math.sqrt((1 - b) / (1 - a) * (1 - a / b))"),
    ("iddpm.3", "def variance(v, beta, beta_tilde):\n"
     "    return math.exp(v * math.log(beta_tilde) + (1 - v) * math.log(beta))"),
    ("iddpm.4", "def clipped(x, eps, a):\n"
     "    return min(max((x - math.sqrt(1 - a) * eps) / math.sqrt(a), -1), 1), eps"),
    ("measuring.2", "def interval(x):\n    half = 1.96 * x.std() / len(x) ** 0.5\n"
     "    return x.mean() - half, x.mean() + half"),
    ("measuring.2", "def interval(x):\n    return x.quantile(0.025), x.quantile(0.975)"),
    ("ddpm.3", "def noisy(x0, eps, t, table):\n    a = table[t - 2]\n    return a ** 0.5 * x0 + (1 - a) ** 0.5 * eps"),
    ("score_sde.2", "def score(eps, sigma):\n    return -eps / sigma ** 2"),
    ("adm.3", "def classifier_free(with_label, without, scale):\n"
     "    return with_label + scale * (with_label - without)"),
    ("capstone.2", "def ninth(x, denoise, sigma, to):\n"
     "    return denoise(x, sigma) + to * (x - denoise(x, sigma)) / sigma"),
    ("edm.1", "def preconditioning(sigma, data):\n    return 0.0, data, 1 / math.hypot(sigma, data)"),  # x0, not F
    ("edm.1", "def preconditioning(sigma, data):\n    both = sigma**2 + data**2\n"
     "    return data**2 / both, sigma * data / math.sqrt(both), 1 / (sigma + data)"),
    ("edm.2", "def levels(n, low, high, rho):\n    a, b = high ** (1 / rho), low ** (1 / rho)\n"
     "    return [(a + i / n * (b - a)) ** rho for i in range(n)] + [0]"),
    ("edm.2", "def levels(n, low, high, rho):\n    a, b = high**rho, low**rho\n"
     "    return [(a + i / (n - 1) * (b - a)) ** (1 / rho) for i in range(n)] + [0]"),
    ("edm.3", "def step(x, D, before, h, h_before, sigma, to):\n    return to / sigma * x + (1 - math.exp(-h)) * D"),
    ("edm.3", "def step(x, D, before, h, h_before, sigma, to):\n    middle = D + (D - before) / 2\n"
     "    return to / sigma * x + (1 - math.exp(-h)) * middle"),
    ("flow.1", "def readings(x, u, t):\n    eps = x + (1 - t) * u\n    return (x - t * eps) / (1 - t + 1e-3), eps"),
    ("flow.1", "def readings(x, u, t):\n    return x - (1 - t) * u, x + t * u"),
    ("flow.2", "def sample(velocity, x, n):\n    for i in range(n):\n"
     "        x = x - velocity(x, 1 - (i + 0.5) / n) / n\n    return x"),
    ("flow.2", "def sample(velocity, x, n):\n    for i in range(n):\n"
     "        x = x - velocity(x, (i + 1) / n) / n\n    return x"),
    ("flow.3", "def shifted(t, c):\n    return t / (t + c * (1 - t))"),  # c times less noise
    ("flow.3", "def shifted(t, c):\n    return math.sqrt(c) * t / (1 + (math.sqrt(c) - 1) * t)"),
    ("few_steps.1", "def target(x, x_s, a_t, b_t, a_s, b_s):\n    return (x_s - b_s / b_t * x) / a_s"),
    ("few_steps.1", "def target(x, x_s, a_t, b_t, a_s, b_s):\n    return (x_s - b_s * x) / (a_s - b_s * a_t)"),
    ("few_steps.2", "def consistency(x, sigma, m, v):\n    return m + math.sqrt(v) / (math.sqrt(v) + sigma) * (x - m)"),
    ("few_steps.2", "def consistency(x, sigma, m, v):\n    return math.sqrt(v / (v + sigma**2)) * x"),
    ("few_steps.3", "def target(v, slope, t, r):\n    return v - t * slope"),
    ("few_steps.3", "def target(v, slope, t, r):\n    return v - (t - r) / 2 * slope"),
    ("inverse.1", "def posterior_mean(d, v, seen, noise):\n    return d + 2 * v / (noise + 4 * v) * (seen - 2 * d)"),
    ("inverse.1", "def posterior_mean(d, v, seen, noise):\n    return d + v / (noise**2 + 4 * v) * (seen - 2 * d)"),
    ("inverse.2", "def transpose(y, k):\n    return y.repeat_interleave(k, 2).repeat_interleave(k, 3) / k"),
    ("inverse.2", "def transpose(y, k):\n"
     "    return torch.nn.functional.interpolate(y, scale_factor=k, mode='bilinear') / k**2"),
    ("inverse.3", "def gradient(denoise, x, y):\n    x = x.clone().requires_grad_()\n"
     "    distance = ((y - denoise(x)) ** 2).sum()\n    return torch.autograd.grad(distance, x)[0]"),
    ("inverse.3", "def gradient(denoise, x, y):\n    x = x.clone().requires_grad_()\n"
     "    distance = (y - denoise(x)).flatten(1).norm(dim=1).mean()\n    return torch.autograd.grad(distance, x)[0]"),
    ("latents.1", "def scaled(z):\n    return (z - z.mean()) / z.std()"),
    ("latents.1", "def scaled(z):\n    return (z - z.mean((2, 3), keepdim=True)) / z.std((2, 3), keepdim=True)"),
    ("latents.2", "def patches(x, p):\n    B, C, H, W = x.shape\n    x = x.reshape(B, C, H // p, p, W // p, p)\n"
     "    return x.permute(0, 3, 5, 2, 4, 1).reshape(B, (H // p) * (W // p), p * p * C)"),
    ("latents.2", "def patches(x, p):\n    B, C, H, W = x.shape\n    x = x.reshape(B, C, H // p, p, W // p, p)\n"
     "    return x.permute(0, 4, 2, 3, 5, 1).reshape(B, (H // p) * (W // p), p * p * C)"),  # column by column
    ("latents.3", "def zero_layer(width):\n    return torch.nn.Linear(width, width)\n\n"
     "def controlled(frozen, copy, zero, x, c):\n    return frozen(x) + zero(copy(x + c))"),
    ("latents.3", "def zero_layer(width):\n    layer = torch.nn.Linear(width, width)\n"
     "    torch.nn.init.zeros_(layer.weight)\n    torch.nn.init.zeros_(layer.bias)\n    return layer\n\n"
     "def controlled(frozen, copy, zero, x, c):\n    return frozen(x) + zero(0 * copy(x + c))"),
]  # fmt: skip

RIGHT = [
    ("ncsn.2", "def langevin(x, score, d, z):\n    return x + d * score - (2 * d) ** 0.5 * z"),  # z has no sign
    ("ddim.1", "def sigma(eta, a, b):\n    a, b = torch.tensor(a), torch.tensor(b)\n"
               "    return eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()"),  # in float32
    ("ddpm.1", "def predicted_x0(x, eps, a):\n    a = torch.tensor(a)\n"
     "    return (x - (1 - a).sqrt() * eps) / a.sqrt()"),
    ("iddpm.2", "def respaced(alpha_bar, kept):\n    left = torch.tensor([alpha_bar[t] for t in [0, *kept]])\n"
                "    return 1 - left[1:] / left[:-1]"),
    ("measuring.2", "def interval(x):\n    means = [x[torch.randint(len(x), (len(x),))].mean() for _ in range(1000)]\n"
                    "    means = sorted(means)\n    return means[25], means[974]"),
    ("capstone.2", "def ninth(x, denoise, sigma, to):\n    half = (sigma * to) ** 0.5\n"
                   "    middle = x + (half - sigma) * (x - denoise(x, sigma)) / sigma\n"
                   "    return x + (to - sigma) * (middle - denoise(middle, half)) / half"),  # the middle one
    ("edm.1", "def preconditioning(sigma, data):\n    angle = math.atan2(sigma, data)\n"
     "    return math.cos(angle) ** 2, data * math.sin(angle), math.cos(angle) / data"),
    ("edm.2", "def levels(n, low, high, rho):\n    a, b = high ** (1 / rho), low ** (1 / rho)\n"
     "    return torch.cat([torch.linspace(a, b, n).double() ** rho, torch.zeros(1)])"),  # a tensor
    ("edm.3", "def step(x, D, before, h, h_before, sigma, to):\n    half = h / (2 * h_before)\n"
     "    return to / sigma * x - math.expm1(-h) * ((1 + half) * D - half * before)"),
    ("flow.1", "def readings(x, u, t):\n    x0 = x - t * u\n    return x0, u + x0"),
    ("flow.2", "def sample(velocity, x, n):\n    for k in range(n, 0, -1):\n"
     "        x = x + (-1 / n) * velocity(x, k / n)\n    return x"),
    ("flow.3", "def shifted(t, c):\n    return 1 - (1 - t) / (1 - t + c * t)"),
    ("few_steps.1", "def target(x, x_s, a_t, b_t, a_s, b_s):\n"
     "    return (b_t * x_s - b_s * x) / (b_t * a_s - b_s * a_t)"),
    ("few_steps.2", "def consistency(x, sigma, m, v):\n    v = torch.tensor(v)\n"
     "    return m + (x - m) * (v / (v + sigma * sigma)).sqrt()"),  # in float32
    ("few_steps.3", "def target(v, slope, t, r):\n    return v + (r - t) * slope"),
    ("inverse.1", "def posterior_mean(d, v, seen, noise):\n"
     "    return (noise**2 * d + 2 * v * seen) / (noise**2 + 4 * v)"),
    ("inverse.2", "def transpose(y, k):\n    return torch.kron(y, torch.full((k, k), 1 / k**2, dtype=y.dtype))"),
    ("inverse.3", "def gradient(denoise, x, y):\n    found = []\n    for i in range(len(x)):\n"
     "        one = x[i : i + 1].clone().requires_grad_()\n        distance = (y[i : i + 1] - denoise(one)).norm()\n"
     "        found.append(torch.autograd.grad(distance, one)[0])\n    return torch.cat(found)"),
    ("latents.1", "def scaled(z):\n    flat = z.transpose(0, 1).flatten(1).double()\n"
     "    flat = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True, correction=0)\n"
     "    return flat.reshape(z.transpose(0, 1).shape).transpose(0, 1)"),
    ("latents.2", "def patches(x, p):\n"
     "    return torch.nn.functional.unfold(x, p, stride=p).transpose(1, 2)"),  # another order within a patch
    ("latents.3", "def zero_layer(width):\n    layer = torch.nn.Linear(width, width, bias=False)\n"
     "    layer.weight.data.mul_(0)\n    return layer\n\n"
     "def controlled(frozen, copy, zero, x, c):\n    return torch.add(zero(torch.tanh(copy(x + c))), frozen(x))"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "answer"), WRONG)
def test_a_wrong_answer_is_refused(key: str, answer: str) -> None:
    verdict = WORKSHOP.judge(EXERCISES[key], answer)
    assert not verdict.right
    assert "Error" not in verdict.words  # it is refused for what it says, not for how it is written


@pytest.mark.parametrize(("key", "answer"), RIGHT)
def test_another_right_answer_is_accepted(key: str, answer: str) -> None:
    assert WORKSHOP.judge(EXERCISES[key], answer).words == "Right."
