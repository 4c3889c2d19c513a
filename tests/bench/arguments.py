"""Values that arguments of more than one of the commands have."""

import argparse


def some_of(known):
    """Names out of `known`, separated by commas."""
    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name}: not one of {', '.join(known)}")
        return names
    return parse


def cells(text):
    """64x100,1024x10: size and subscribers of each cell."""
    try:
        return [tuple(map(int, cell.split("x", 1))) for cell in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError("expected SIZExSUBSCRIBERS,…, as 64x100,1024x10") from None
