"""Producing and consuming through librdkafka: what is sent comes back, and what must be refused is refused."""

import data_consume  # noqa: F401 registers its checks
import data_limits  # noqa: F401
import data_produce  # noqa: F401
from checks import main
from target import Target

if __name__ == "__main__":
    main(Target, __doc__)
