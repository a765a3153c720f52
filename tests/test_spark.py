"""The recipe of docs/spark.md, as it stands there.

Swept: one and three partitions. Against: a local fit. Tolerance: none. Skipped without PySpark or
without Java.
"""

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import hurting_data, targets

from qgbdt import QGBDTRegressor

pyspark = pytest.importorskip("pyspark", reason="PySpark is not installed: pip install pyspark")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)

pytestmark = pytest.mark.timeout(200)

RECIPE = (Path(__file__).parents[1] / "docs" / "spark.md").read_text()


@pytest.fixture(scope="module")
def spark():
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        builder = SparkSession.builder.master("local[3]").config("spark.ui.enabled", "false")
        session = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
        yield session
        session.stop()


@pytest.mark.parametrize("n_partitions", [1, 3])
def test_the_model_is_that_of_a_local_fit(n_partitions, spark):
    names = {}
    (code,) = re.findall(r"```python\n(.*?)```", RECIPE, re.DOTALL)
    exec(code, names)
    frame = pd.DataFrame(hurting_data(300), columns=list("abcdef"))
    frame["y"], _ = targets(frame[list("abcdef")].to_numpy(), "regression")
    cut = spark.createDataFrame(
        spark.sparkContext.parallelize(frame.to_numpy().tolist(), n_partitions), list(frame.columns)
    )
    rows = cut.toPandas()
    local = QGBDTRegressor(n_estimators=3).fit(rows.drop(columns="y"), rows["y"])
    assert names["fit"](QGBDTRegressor(n_estimators=3), cut, "y").booster_ == local.booster_
