"""The precision policies of bench/compare: what each lets engines round, and the error ‖y − y64‖ / ‖y64‖ above which one has failed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    largest_error: float
    says: str


# TF32 and float16 keep ten bits of an operand's mantissa, bfloat16 seven: errors of one rounding differ by eight, of networks by about as much.
POLICIES = {
    "fp32": Policy(1e-3, "nothing below 32 bits in any engine"),
    "tf32": Policy(2e-2, "Tilewright's products as exact as TF32's or better, the other engines in float32, their nearest class"),
    "bf16": Policy(2e-1, "each engine rounding to bfloat16 what it documents for it"),
    "fp16": Policy(2e-2, "each engine rounding to float16 what it documents for it"),
}
