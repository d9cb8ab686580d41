"""``python -m handloom``: the command line, where its script is not on the path."""

from jobs.cli import main

if __name__ == "__main__":
    main()
