"""The front door: command line, images in and out, reports and the demo."""

__version__ = "0.1.0"
