"""What exporting keeps out of the log, and what it leaves as it was."""

from __future__ import annotations

import logging

import pytest

from onnx_unipts.export.quiet import quiet


def test_what_libraries_say_is_kept_out_of_the_log(caplog: pytest.LogCaptureFixture):
    with quiet(logging.WARNING):
        logging.warning("use another option")
        logging.error("this did not work")
    logging.warning("of the user's own")
    assert caplog.messages == ["this did not work", "of the user's own"]


def test_the_log_is_set_up_as_before_afterwards():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logging.disable(logging.ERROR)
    try:
        with quiet(logging.INFO):
            root.addHandler(logging.NullHandler())
            root.setLevel(logging.DEBUG)
            assert not root.isEnabledFor(logging.WARNING)
        assert (root.handlers, root.level) == (handlers, level)
        assert not root.isEnabledFor(logging.ERROR)
    finally:
        logging.disable(logging.NOTSET)
