"""The paper's tricks, one file each.

| paper | trick | file |
|---|---|---|
| 2.1 | Nesterov momentum, Xavier initialisation, step decay | `nesterov`, `initializers`, `step_decay` |
| 3.1 | linear scaling of the learning rate | `linear_scaling` |
| 3.1 | learning-rate warmup | `warmup` |
| 3.1 | zero gamma | `zero_gamma` |
| 3.1 | no bias decay | `no_bias_decay` |
| 3.2 | low-precision training | `low_precision` |
| 5.1 | cosine decay | `cosine` |
| 5.2 | label smoothing | `label_smoothing` |
| 5.4 | mixup; CutMix, beyond the paper | `mixup` |

The model tweaks of section 4 are in `rtj.models.resnet`.
"""  # noqa: E501
