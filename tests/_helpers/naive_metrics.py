"""The metrics again, as slow and plain as their definitions: one pair at a time, float64.

Written from docs/metrics.md alone, as oracle of the tests and as yardstick of
workflows/benchmarks/metrics.py. ``Naive(separable=True)`` filters rows and columns one after the
other, the faster of the two customary ways.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d, maximum_filter
from scipy.signal import convolve2d
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

SOBEL = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])


def gray_of(image: np.ndarray, profile: str) -> tuple[np.ndarray, np.ndarray]:
    """Channels (C, H, W) and gray (H, W), 0..255, of a picture (C, H, W) float32 in [0, 1]."""
    if profile == "paper":
        half = np.float32(0.5)
        channels = ((image - half) / half + np.float32(1)) * np.float32(127.5)
        if len(channels) == 1:
            return channels.astype(float), channels[0].astype(float)
        weights = np.array([0.2989, 0.5870, 0.1140], np.float32)
        r, g, b = (w * c for w, c in zip(weights, channels, strict=True))
        return channels.astype(float), np.trunc(r + g + b).astype(float)
    channels = np.round(image * np.float32(255)).astype(int)
    if len(channels) == 1:
        return channels.astype(float), channels[0].astype(float)
    r, g, b = channels
    return channels.astype(float), ((299 * r + 587 * g + 114 * b + 500) // 1000).astype(float)


def luminance_of(channels: np.ndarray) -> np.ndarray:
    if len(channels) == 1:
        return channels[0] / 255
    return (299 * channels[0] + 587 * channels[1] + 114 * channels[2]) / 255_000


def gaussian_taps(size: int, sigma: float) -> np.ndarray:
    x = np.arange(size) - size // 2
    taps = np.exp(-(x**2) / (2 * sigma**2))
    return taps / taps.sum()


def entropy_bits(counts: np.ndarray, guard: float = 0.0) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-np.sum(p * np.log2(p + guard)))


def mutual_information(x: np.ndarray, y: np.ndarray) -> float:
    edges = np.arange(257)
    joint, _, _ = np.histogram2d(np.trunc(x).ravel(), np.trunc(y).ravel(), bins=(edges, edges))
    own = entropy_bits(joint.sum(axis=1)) + entropy_bits(joint.sum(axis=0))
    return own - entropy_bits(joint.ravel())


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / norm) if norm > 1e-12 else 0.0


def qabf(a: np.ndarray, b: np.ndarray, f: np.ndarray, profile: str) -> tuple[float, float, float]:
    def edges(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = np.pad(x, 1)
        sx, sy = (convolve2d(padded, k, mode="valid") for k in (SOBEL, SOBEL.T))
        with np.errstate(divide="ignore", invalid="ignore"):
            angle = np.where(sx == 0, np.pi / 2, np.arctan(sy / sx))
        return np.sqrt(sx**2 + sy**2), angle

    g_f, angle_f = edges(f)
    kept, weights = [], []
    for source in (a, b):
        g, angle = edges(source)
        ratio = np.minimum(g, g_f) / np.maximum(np.maximum(g, g_f), 1e-12)
        ratio = np.where(g == g_f, g_f if profile == "paper" else 1.0, ratio)
        turn = 1 - np.abs(angle - angle_f) / (np.pi / 2)
        q_g = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
        q_a = 0.9879 / (1 + np.exp(-22 * (turn - 0.8)))
        kept.append((q_g * q_a * g).sum())
        weights.append(g.sum())
    return sum(kept) / sum(weights), kept[0] / weights[0], kept[1] / weights[1]


def nabf(a: np.ndarray, b: np.ndarray, f: np.ndarray, profile: str) -> float:
    def edges(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = np.pad(x, 1)  # then row and column 2 and -3 are copied to the border
        padded[0], padded[-1] = padded[2], padded[-3]
        padded[:, 0], padded[:, -1] = padded[:, 2], padded[:, -3]
        gv, gh = (convolve2d(padded, k / 8, mode="valid") for k in (SOBEL, SOBEL.T))
        with np.errstate(divide="ignore", invalid="ignore"):
            angle = np.where((gv == 0) & (gh == 0), 0, np.arctan(gv / gh))
        return np.sqrt(gv**2 + gh**2), angle

    g_f, angle_f = edges(f)
    stronger = np.ones(f.shape, bool)
    lost, total = np.zeros(f.shape), 0.0
    for source in (a, b):
        g, angle = edges(source)
        stronger &= g_f > g
        high = np.maximum(g, g_f)
        ratio = np.where(high > 0, np.minimum(g, g_f) / np.where(high > 0, high, 1), 0)
        turn = np.abs(np.abs(angle - angle_f) - np.pi / 2) * 2 / np.pi
        q_g = 0.9999 / (1 + np.exp(-19 * (ratio - 0.5)))
        q_a = 0.9995 / (1 + np.exp(-22 * (turn - 0.5)))
        weight = np.where(g >= 2, g**1.5, 0.0 if profile == "paper" else 0.001)
        lost += (1 - np.sqrt(q_g * q_a)) * weight
        total += weight.sum()
    return float(lost[stronger].sum() / total)


class Naive:
    """All metrics of one pair; filters in two dimensions, or row by row and column by column."""

    def __init__(self, profile: str, *, separable: bool = False) -> None:
        self.profile = profile
        self.separable = separable

    def filtered(self, x: np.ndarray, taps: np.ndarray) -> np.ndarray:
        if not self.separable:
            return convolve2d(x, np.outer(taps, taps), mode="valid")
        r = len(taps) // 2
        return correlate1d(correlate1d(x, taps, axis=0), taps, axis=1)[r:-r, r:-r]

    def vif(self, reference: np.ndarray, distorted: np.ndarray) -> float:
        eps, kept, whole = 1e-10, 0.0, 0.0
        for scale in range(1, 5):
            size = 2 ** (5 - scale) + 1
            taps = gaussian_taps(size, size / 5)
            if scale > 1:
                reference = self.filtered(reference, taps)[::2, ::2]
                distorted = self.filtered(distorted, taps)[::2, ::2]
            m1, m2 = self.filtered(reference, taps), self.filtered(distorted, taps)
            s1 = np.maximum(self.filtered(reference**2, taps) - m1**2, 0)
            s2 = np.maximum(self.filtered(distorted**2, taps) - m2**2, 0)
            s12 = self.filtered(reference * distorted, taps) - m1 * m2
            g = s12 / (s1 + eps)
            sv = s2 - g * s12
            flat = s1 < eps
            g[flat], sv[flat], s1[flat] = 0, s2[flat], 0
            g[s2 < eps], sv[s2 < eps] = 0, 0
            sv[g < 0] = s2[g < 0]
            g[g < 0] = 0
            sv = np.maximum(sv, eps)
            kept += np.log10(1 + g**2 * s1 / (sv + 2)).sum()
            whole += np.log10(1 + s1 / 2).sum()
        return kept / whole

    def ssim(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(
            structural_similarity(
                x,
                y,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0 if self.profile == "paper" else 255.0,
            )
        )

    def ms_ssim(self, x: np.ndarray, y: np.ndarray) -> float:
        span = 1.0 if self.profile == "paper" else 255.0
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        taps, value = gaussian_taps(11, 1.5), 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            if scale > 0:
                h, w = (n // 2 * 2 for n in x.shape)
                x, y = (
                    (z[:h:2, :w:2] + z[1:h:2, :w:2] + z[:h:2, 1:w:2] + z[1:h:2, 1:w:2]) / 4
                    for z in (x, y)
                )
            mx, my = self.filtered(x, taps), self.filtered(y, taps)
            vx, vy = self.filtered(x * x, taps) - mx**2, self.filtered(y * y, taps) - my**2
            term = (2 * (self.filtered(x * y, taps) - mx * my) + c2) / (vx + vy + c2)
            if scale == 4:
                term = term * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
            value *= max(term.mean(), 0.0) ** weight
        return float(value)

    def uptake(self, a: np.ndarray, b: np.ndarray, f: np.ndarray) -> dict[str, float]:
        positive = a > 0.05
        count = int(np.ceil(0.05 * positive.sum()))
        hot = a >= np.sort(a[positive])[::-1][count - 1]
        x, y = (a - b)[hot], (f - b)[hot]
        steps = [np.round(z[positive] * 65535) for z in (a, f)]
        near = (maximum_filter(hot, size=17, mode="constant") > 0) & ~hot
        return {
            "uptake_correlation": float(spearmanr(*steps).statistic),
            "hot_spot_share": float((x * y).sum() / (x * x).sum()),
            "lesion_contrast": float(
                (f[hot].mean() - f[near].mean()) / (a[hot].mean() - a[near].mean())
            ),
        }

    def __call__(self, a: np.ndarray, b: np.ndarray, f: np.ndarray) -> dict[str, float]:
        """Every metric of one pair; pictures (C, H, W) float32 in [0, 1]."""
        (ca, a), (cb, b), (cf, f) = (gray_of(x, self.profile) for x in (a, b, f))
        out = self.uptake(luminance_of(ca), luminance_of(cb), luminance_of(cf))
        for name, metric in (
            ("VIF", self.vif),
            ("SSIM", self.ssim),
            ("MS-SSIM", self.ms_ssim),
            ("MI", mutual_information),
        ):
            out[f"{name}_A"], out[f"{name}_B"] = metric(a, f), metric(b, f)
            out[name] = out[f"{name}_A"] + out[f"{name}_B"]
        out["Qabf"], out["Qabf_A"], out["Qabf_B"] = qabf(a, b, f, self.profile)
        out["Nabf"] = nabf(a, b, f, self.profile)
        out["CC_A"], out["CC_B"] = pearson(a, f), pearson(b, f)
        out["CC"] = (out["CC_A"] + out["CC_B"]) / 2
        out["SCD"] = pearson(f - b, a) + pearson(f - a, b)
        out["MSE_A"], out["MSE_B"] = (((f - x) ** 2).mean() / 255**2 for x in (a, b))
        out["MSE"] = (out["MSE_A"] + out["MSE_B"]) / 2
        peak = 255.0 if self.profile == "paper" else 1.0
        for suffix in ("", "_A", "_B"):
            with np.errstate(divide="ignore"):
                out["PSNR" + suffix] = 20 * np.log10(peak / np.sqrt(out["MSE" + suffix]))
        return out | self.alone(cf, f)

    def alone(self, channels: np.ndarray, f: np.ndarray) -> dict[str, float]:
        gy, gx = np.gradient(f)
        height, width = f.shape
        out = {
            "SD": f.std(),
            "AG": np.sqrt((gx**2 + gy**2) / 2).sum() / ((height - 1) * (width - 1)),
        }
        if self.profile == "paper":
            counts = np.bincount(channels.astype(int).ravel(), minlength=256)
            out["EN"] = entropy_bits(counts, 1e-7)
            whole = channels.astype(np.uint8)
            dy, dx = np.diff(whole, axis=1), np.diff(whole, axis=2)
            out["SF"] = np.sqrt((dy * dy).mean() + (dx * dx).mean())  # wraps, as published
        else:
            out["EN"] = entropy_bits(np.bincount(f.astype(int).ravel(), minlength=256))
            out["SF"] = np.sqrt((np.diff(f, axis=0) ** 2).mean() + (np.diff(f, axis=1) ** 2).mean())
        return {name: float(value) for name, value in out.items()}
