"""scikit-learn: estimators are fitted in `%%gpu` cells and used in plain ones."""

from __future__ import annotations

import pytest

from tests.frameworks.notebook import Notebook

pytest.importorskip("sklearn")

DATA = """
from sklearn import set_config
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

set_config(transform_output="pandas")
x, y = load_digits(return_X_y=True, as_frame=True)
learn_x, test_x, learn_y, test_y = train_test_split(x, y, random_state=0, train_size=400)
"""


def test_a_pipeline_is_fitted_in_place(notebook: Notebook) -> None:
    """The notebook's own estimators, steps and all, are fitted afterwards, as by a plain cell."""
    notebook.once(DATA)
    notebook.cell(
        """
        model = make_pipeline(StandardScaler(), PCA(20), SVC(probability=False, random_state=0))
        plain = clone(model).fit(learn_x, learn_y)
        reduction, before = model[1], [id(step) for _, step in model.steps]
        """
    )
    notebook.gpu("returned = model.fit(learn_x, learn_y)\nreduced = model[:-1].transform(test_x)")
    assert (
        notebook.cell(
            """
            print(returned is model, [id(step) for _, step in model.steps] == before)
            print((model.predict(test_x) == plain.predict(test_x)).all())
            print(type(reduced).__name__, (reduction.transform(model[0].transform(test_x))
                == reduced).all(axis=None), model.score(test_x, test_y) > 0.9)
            """
        )
        == "True True\nTrue\nDataFrame True True"
    )


def test_forests_and_searches(notebook: Notebook) -> None:
    """Trees (C structures), boosting and a search with what it found agree with plain ones."""
    notebook.once(DATA)
    notebook.cell(
        """
        forest = RandomForestClassifier(20, random_state=0)
        boosted = HistGradientBoostingClassifier(max_iter=5, random_state=0)
        search = GridSearchCV(SVC(), {"C": [0.1, 10]}, cv=2)
        each = [forest, boosted, search]
        plain = [clone(one).fit(learn_x, learn_y) for one in each]
        """
    )
    notebook.gpu("for one in each:\n    one.fit(learn_x, learn_y)")
    notebook.gpu("there = [one.predict(test_x) for one in each]")
    assert (
        notebook.cell(
            """
            for one, other, found in zip(each, plain, there):
                print((one.predict(test_x) == other.predict(test_x)).all(),
                      (found == other.predict(test_x)).all())
            print(search.best_params_ == plain[2].best_params_, forest is each[0])
            """
        )
        == "True True\nTrue True\nTrue True\nTrue True"
    )
    forest_bytes = notebook.receipt["sent_bytes"]
    notebook.gpu("again = forest.predict(test_x)")
    assert notebook.receipt["sent_bytes"] < forest_bytes / 10
