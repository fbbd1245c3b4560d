"""The scripts are no package: their folder goes on the path, as it does when one of them is run."""

import sys

from source_tree import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
