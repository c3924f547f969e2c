"""`python -m kvlab.lab`: the daemon of one cluster. Not for people: `kvlab up` starts it."""

from kvlab.lab.daemon import main

if __name__ == "__main__":
    main()
