"""Makes `python -m dromos` the command line."""

from dromos.cli import main

if __name__ == "__main__":
    main()
