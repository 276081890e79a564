"""The command line, with a stub prior of which everything is known: every pixel is normal around grey."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import posterior
import prior
from posterior import images, jobs
from posterior.cli import app
from posterior.images import read
from posterior.png16_for_tests import write16
