"""Clusters of drawn pixels, and DBSCAN's definition on random ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from skinray.crossings.detect import cluster_centres


def at(*pixels):
    return np.array(pixels, dtype=np.int64).reshape(-1, 2)


def test_three_pixels_are_noise_and_four_a_cluster():
    assert len(cluster_centres(at((0, 0), (0, 1), (0, 2)), 3, 4)) == 0
    centres = cluster_centres(at((0, 0), (0, 1), (0, 2), (0, 3)), 3, 4)
    np.testing.assert_array_equal(centres, [[0, 1.5]])


def test_a_pixel_at_exactly_eps_belongs():
    pixels = at((0, 0), (0, 1), (1, 0), (1, 1), (0, 4))
    np.testing.assert_array_equal(cluster_centres(pixels, 3, 4), [[0.4, 1.2]])
    np.testing.assert_array_equal(cluster_centres(pixels, 2.99, 4), [[0.5, 0.5]])


def test_a_border_pixel_joins_but_does_not_extend():
    """From the border pixel (0, 5) on, no pixel is reached through it."""
    pixels = at((0, 0), (0, 1), (0, 2), (1, 1), (0, 5), (0, 8))
    np.testing.assert_array_equal(cluster_centres(pixels, 3, 4), [[0.2, 1.8]])


def test_a_shared_border_pixel_belongs_to_both_clusters():
    """Scikit-learn gives it to the cluster it meets first, which turns with the image."""
    pixels = at((0, 0), (0, 1), (0, 2), (1, 1), (0, 5), (0, 8), (0, 9), (0, 10), (1, 9))
    labels = DBSCAN(eps=3, min_samples=4).fit_predict(pixels)
    np.testing.assert_array_equal(labels, [0, 0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(cluster_centres(pixels, 3, 4), [[0.2, 1.8], [0.2, 8.2]])


def test_no_pixel_no_cluster():
    assert cluster_centres(at(), 3, 4).shape == (0, 2)
    assert cluster_centres(at((5, 5)), 3, 4).shape == (0, 2)
    np.testing.assert_array_equal(cluster_centres(at((5, 6)), 3, 1), [[5, 6]])


@settings(max_examples=150, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 25), st.integers(0, 25)), max_size=90),
    st.sampled_from([1.0, 1.5, 2.0, 3.0]),
    st.integers(1, 6),
)
def test_clusters_are_core_points_and_all_within_their_reach(pixels, eps, min_points):
    found = cluster_centres(at(*sorted(pixels)), eps, min_points)
    if not pixels:
        assert len(found) == 0
        return
    points = at(*sorted(pixels))
    model = DBSCAN(eps=eps, min_samples=min_points).fit(points)
    expected = []
    for cluster in range(model.labels_.max() + 1):
        cores = [i for i in model.core_sample_indices_ if model.labels_[i] == cluster]
        steps = points[:, None] - points[cores][None]
        members = (np.hypot(*steps.transpose(2, 0, 1)) <= eps).any(axis=1)
        expected.append(tuple(points[members].mean(axis=0)))
    assert found.tolist() == [pytest.approx(centre) for centre in sorted(expected)]
