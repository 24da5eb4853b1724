"""Makes the libraries speak only of errors: they would log prompts, and draw progress bars into the log."""

import diffusers.utils.logging
import transformers.utils.logging


def silence() -> None:
    """Call it before any other module of the engines is imported: some warn while they are."""
    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
