"""Show which vectors and tests every requirement leads to."""
import argparse
def add_arguments(parser: argparse.ArgumentParser) -> None: ...
def main(args: argparse.Namespace) -> int: return 0
