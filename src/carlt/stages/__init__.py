"""Second stages: further training of a network's classifier on frozen features."""

from carlt.stages.base import Stage
from carlt.stages.crt import CRT
from carlt.stages.disalign import DisAlign
from carlt.stages.los import LOS
from carlt.stages.lws import LWS
from carlt.stages.mislas import MiSLAS
from carlt.stages.weight_balancing import WeightBalancing

__all__ = ["CRT", "LOS", "LWS", "DisAlign", "MiSLAS", "Stage", "WeightBalancing"]
