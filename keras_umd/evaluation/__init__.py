"""How good representations and generated images are."""

from keras_umd.evaluation.few_shot import FewShotProbe, few_shot_accuracy
from keras_umd.evaluation.frechet import frechet_distance
