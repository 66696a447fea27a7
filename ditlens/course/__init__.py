"""What the notebooks call: begin a lesson, check an answer, ask for a hint, hand in.

>>> from ditlens import course
>>> course.check("00.1", ...)
00.1 · ...: ○ open
Not answered yet. ...
"""

from ditlens.course.desk import check as check
from ditlens.course.desk import diagram as diagram
from ditlens.course.desk import exercises as exercises
from ditlens.course.desk import hint as hint
from ditlens.course.desk import model as model
from ditlens.course.desk import results as results
from ditlens.course.desk import start as start
