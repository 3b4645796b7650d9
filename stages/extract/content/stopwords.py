"""Function words of the larger written languages: prose has many of them, menus and lists of links few."""

WORDS = """
the be to of and that have with a in is for it on as are this was by not at from or an but they you we he she his
her which their
will would can has had were been there what when who how if about more so than then them these some into our your
der die das und ist nicht ein eine einer eines einem einen zu den dem des mit auf für von sich auch im es an als
wird sind aus bei nach
wie nur noch aber oder wenn werden wurde dass kann über sie wir ich er hat haben war zum zur durch diese dieser bis
um so
le la les de des du un une et est en que qui dans pour pas sur au aux par plus ce cette avec ne se sont il elle nous
vous ou mais
son sa ses leur être été ont comme tout fait si y
el los las del una y que en se por con para como su es lo al más pero sus o este ha sí porque esta son entre cuando
muy sin sobre
también me hasta hay donde quien desde
il lo gli della di che non per una sono con più anche come si nel alla dei delle da al ma ha le questo essere ed era
dal
o os as da do em um uma não com na no dos das mais mas foi ao ele tem seu sua ou ser quando muito nos já está também
pelo pela até
de het een en van ik te dat niet zijn op aan met als voor er maar om hem dan zou wat mijn men dit zo door over ze
bij ook tot uit kan
nie się na w z do że jest to jak za od po ale czy co tak przez dla ich tym być już tylko go lub oraz był które który
и в не на я что он с а как это по к но его все она так о из у же за от бы мы вы для до или если мне было быть ли
есть еще уже при
och det att i en jag som på är av för den till inte om har de ett var med så ni han men du sig från vi kan när
og ikke av til er på med en et som for den det har men om vi kan fra eller ved også efter være blev
ve bir bu da de için ile çok olarak daha gibi kadar olan ne ama en sonra her var mi o ya
a se je na že to v s z do jako by ale jsou není pro po za který také jeho nebo
a az és hogy nem is egy de meg ez volt van már csak el ha mint még ki vagy
și în de la cu nu pe este un o că din pentru mai sau care ca fi
και το να του η της με που την για από στο είναι τα των δεν θα τον
і в не на що з та до як це за у від але є або для
ja on ei se että oli mutta kuin myös tai ovat hän joka
và của là có trong cho không được với một các những này đã
yang dan di ini itu dengan untuk dari tidak pada adalah dalam akan juga
في من على إلى أن هذا التي الذي عن مع لا ما هو هي كان
و در به از که این را با است برای آن یک
של את על לא זה הוא עם כי גם היא
के में की है और से का को पर यह हैं
""".split()
