from .projector import Projector as Projector
