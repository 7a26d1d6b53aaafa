"""How good the representation is."""

from keras_umd.evaluation.few_shot import FewShotProbe, few_shot_accuracy
