"""``python -m fidfast.cuda``: the full test of this machine's GPUs."""

from fidfast.cuda.check import main

raise SystemExit(main())
