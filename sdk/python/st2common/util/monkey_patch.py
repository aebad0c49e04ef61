"""Nothing here is patched: the runner does not use eventlet."""


def monkey_patch(patch_thread=None):
    """Does nothing."""


def use_select_poll_workaround(*_args, **_kwargs):
    """Does nothing."""
