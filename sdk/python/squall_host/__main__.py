"""`zygote [module …]`: import the modules and serve forks over the socket at descriptor 3. `once`: run the one action
or sensor whose control socket is there.
"""

import os
import sys

CONTROL_FD = 3


def main(mode, modules):
    # The directory of this file is first on the path; packages are found one level up.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    sys.path.insert(0, os.path.dirname(here))
    if mode == "zygote":
        from importlib import import_module

        from squall_host import zygote

        for module in modules:
            import_module(module)
        zygote.serve(CONTROL_FD)
    elif mode == "once":
        from squall_host import child

        child.run(CONTROL_FD)
    else:
        sys.exit("usage: __main__.py zygote|once")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:])
