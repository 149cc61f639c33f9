from mmdyn.models import stock_stages  # noqa: F401, registers cuts
from mmdyn.models.stock_weights import load_stock_weights

__all__ = ['load_stock_weights']
