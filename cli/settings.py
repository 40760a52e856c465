"""What the console reads besides the other classes: dev mode's ports and folder, and where the API is."""

from pathlib import Path

from pydantic import Field, SecretStr

from mailer.settings import Settings


class DevSettings(Settings):
    """`postroom dev`."""

    data_dir: Path = Field(Path(".postroom"), description="Where dev mode keeps the queue server's data.")
    mailbox_smtp_port: int = Field(1025, ge=1, le=65535, description="SMTP port of the mailbox that captures mail.")
    demo_port: int = Field(8100, ge=1, le=65535, description="Port of the demo application.")


class ClientSettings(Settings):
    """`postroom emit` and `postroom send`."""

    url: str = Field("http://127.0.0.1:8000", description="Address of the API.", pattern=r"^https?://")
    key: SecretStr = Field(SecretStr(""), description="API key to use.")
