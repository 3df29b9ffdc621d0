"""Limits for tests that are not of time: a pause of the machine is not to fail them."""

from serving.rules import Limits

PATIENT = Limits(request_s=60, viewer_s=20, retrieve_s=20, features_s=20, rank_s=20)
