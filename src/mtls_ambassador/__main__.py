"""`python -m mtls_ambassador`: the command line."""

from mtls_ambassador.cli.main import main

if __name__ == "__main__":
    main()
