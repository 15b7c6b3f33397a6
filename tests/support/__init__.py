"""What several tests share: tiny networks and data, fits, runners of commands, writers and readers of files."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent
MADE_AT_5B152F2 = ROOT / "tests" / "made_at_5b152f2"
