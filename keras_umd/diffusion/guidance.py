"""Classifier-free guidance: towards the label, away from no label."""


def classifier_free(conditional, unconditional, guidance_scale):
    """`unconditional + guidance_scale * (conditional - unconditional)` (Eq. 3; Ho and Salimans, 2022).

    Args:
        conditional, unconditional: Float tensors of one shape, predictions with the label and with the null label.
        guidance_scale: Float or scalar tensor. 1 is no guidance, the paper's figures use 4.
    """
    return unconditional + guidance_scale * (conditional - unconditional)
