"""``python -m ditlens`` is the ``ditlens`` command."""

import sys

from ditlens.cli.main import main

sys.exit(main())
