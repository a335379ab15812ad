"""What is measured of a dictionary: names, labels and formulas, for tooltips and column heads. No torch.

x is the site's activation on one token in the model's own coordinates, x̂ what the dictionary makes of it, c its codes; sums run over all
counted tokens of the held-out text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

BOS_RULE = "BOS positions are not counted, and keep their own activations when the site is replaced."


@dataclass(frozen=True)
class Metric:
    """One number. formula: how it is computed. better: which way is an improvement, empty where neither is by itself."""

    name: str
    label: str
    formula: str
    unit: str = ""
    better: Literal["up", "down", ""] = ""


METRICS: tuple[Metric, ...] = (
    Metric("l0", "L0", "Mean number of codes that are not zero, over tokens.", "units a token", "down"),
    Metric("l1", "L1", "Mean over tokens of Σ|c|, the sum of the codes.", "activation"),
    Metric(
        "explained_variance",
        "Explained variance",
        "1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², numerator and denominator each summed over all tokens; x̄ is the mean over the same tokens.",
        "",
        "up",
    ),
    Metric("mse", "MSE", "Mean of (x − x̂)² over tokens and over the d numbers of each: Σ‖x − x̂‖² / (n·d).", "activation²", "down"),
    Metric(
        "squared_error", "Squared error", "Σ‖x − x̂‖² / n: summed over the d numbers of a token, mean over tokens.", "activation²", "down"
    ),
    Metric(
        "dead", "Dead", "Share of the units that are active on none of the tokens; fewer tokens make more units look dead.", "share", "down"
    ),
    Metric("dense_1", "Dense, over 1 %", "Share of the units that are active on more than 1 % of the tokens.", "share"),
    Metric("dense_10", "Dense, over 10 %", "Share of the units that are active on more than 10 % of the tokens.", "share"),
    Metric("shrinkage", "Norm ratio", "Mean over tokens of ‖x̂‖ / ‖x‖; below 1 the reconstruction is too short (shrinkage)."),
    Metric(
        "relative_bias",
        "Relative bias",
        "Σ‖x̂‖² / Σ x·x̂; 1 when no rescaling of x̂ would fit better, below 1 when x̂ is too short.",
    ),
    Metric("ce_clean", "Cross-entropy", "Mean over tokens of −log P(next token), of the model as it is.", "nats"),
    Metric("ce_spliced", "Cross-entropy with x̂", "The same with the site's activation replaced by x̂.", "nats", "down"),
    Metric("ce_zero", "Cross-entropy, zero", "The same with the site's activation replaced by zeros.", "nats"),
    Metric("ce_mean", "Cross-entropy, mean", "The same with the site's activation replaced by its mean over the held-out text.", "nats"),
    Metric(
        "loss_recovered",
        "Loss recovered",
        "(CE_zero − CE_spliced) / (CE_zero − CE_clean): 1 when replacing the activation by x̂ costs nothing, 0 when it is as bad as zeros.",
        "",
        "up",
    ),
    Metric(
        "loss_recovered_mean",
        "Loss recovered, mean",
        "(CE_mean − CE_spliced) / (CE_mean − CE_clean): as loss recovered, against the mean instead of zeros.",
        "",
        "up",
    ),
    Metric("ce_difference", "Cross-entropy added", "CE_spliced − CE_clean.", "nats", "down"),
    Metric("kl", "KL", "Mean over tokens of KL(clean ‖ spliced) between the two distributions of the next token.", "nats", "down"),
    Metric("density", "Density", "How many units are active on which share of the tokens, in bins of log10; dead units are counted apart."),
    Metric(
        "encoder_decoder_cosine",
        "Encoder–decoder cosine",
        "Quantiles over units of the cosine between a unit's encoder row and its decoder row.",
    ),
    Metric(
        "mmcs",
        "MMCS",
        "Mean over the directions of one dictionary of the largest cosine with a direction of the other (Sharkey et al. 2022).",
        "",
        "up",
    ),
)

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}

OUTPUTS = ("ce_clean", "ce_spliced", "ce_zero", "ce_mean", "loss_recovered", "loss_recovered_mean", "ce_difference", "kl")
"""Those that need the model's output, not only the site."""
