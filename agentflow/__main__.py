"""python -m agentflow"""

import sys

from agentflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
