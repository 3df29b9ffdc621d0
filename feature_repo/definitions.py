"""What Feast's own commands register; they read the objects of this module by their names.

Run them through ``python -m feature_repo``, which sets the variables read here and in feature_store.yaml.
"""

import os

from feature_repo.views import definitions

_lake = os.environ["UPNEXT_FEAST_LAKE"].rstrip("/")
_all = definitions(lambda table: f"{_lake}/{table}")

user = _all.user
video = _all.video
creator = _all.creator
user_features = _all.user_features
video_features = _all.video_features
creator_features = _all.creator_features
user_stream = _all.user_stream
video_stream = _all.video_stream
ranker = _all.ranker
two_tower = _all.two_tower
