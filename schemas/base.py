"""The two kinds of message."""

from pydantic import BaseModel, ConfigDict


class Sent(BaseModel):
    """What a user sends: an unknown key is a typing error, so it is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Wire(BaseModel):
    """What our own parts send one another, and what the API answers.

    Unknown keys are ignored, so that two releases can talk while one replaces the other.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
