"""Administration through librdkafka: the cluster, topics, configurations, groups, offsets."""

import admin_configs  # noqa: F401 registers its checks
import admin_groups  # noqa: F401
import admin_offsets  # noqa: F401
import admin_topics  # noqa: F401
from checks import main
from target import Target

if __name__ == "__main__":
    main(Target, __doc__)
