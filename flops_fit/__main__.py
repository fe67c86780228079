"""`python -m flops_fit`: the command, as the launchers start it."""

from flops_fit.cli import main

if __name__ == "__main__":
    main()
