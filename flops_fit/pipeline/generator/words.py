"""Words of the generated corpus that are real: the frequent head of each class, in English and Spanish."""

# English noun, Spanish noun, Spanish gender by its ending unless the line says m or f.
NOUNS = """
house casa; garden jardín m; river río; city ciudad f; street calle f; tree árbol m; book libro; letter carta;
table mesa; window ventana; door puerta; bird pájaro; horse caballo; dog perro; cat gato; teacher maestro;
doctor médico; farmer granjero; sailor marinero; neighbour vecino; child niño; brother hermano; sister hermana;
mother madre f; father padre m; friend amigo; king rey m; queen reina; soldier soldado; worker obrero;
mountain montaña; valley valle m; forest bosque m; island isla; beach playa; sea mar m; lake lago; bridge puente m;
road camino; village pueblo; market mercado; school escuela; church iglesia; hospital hospital m; station estación f;
train tren m; boat barco; wheel rueda; machine máquina; engine motor m; hammer martillo; knife cuchillo;
spoon cuchara; plate plato; glass vaso; bottle botella; bread pan m; cheese queso; apple manzana; orange naranja;
tomato tomate m; egg huevo; fish pez m; soup sopa; kitchen cocina; bed cama; chair silla; lamp lámpara; candle vela;
wall muro; roof tejado; floor suelo; stone piedra; field campo; seed semilla; flower flor f; leaf hoja; branch rama;
root raíz f; rain lluvia; wind viento; cloud nube f; storm tormenta; star estrella; moon luna; winter invierno;
summer verano; morning mañana; night noche f; week semana; month mes m; year año; hour hora; story historia;
song canción f; word palabra; question pregunta; answer respuesta; idea idea; plan plan m; law ley f; war guerra;
game juego; gift regalo; price precio; coin moneda; bank banco; shop tienda; dress vestido; shirt camisa;
shoe zapato; hat sombrero; ring anillo; box caja; key llave f; picture cuadro; mirror espejo; clock reloj m;
bell campana; music música; dance baile m; dream sueño; voice voz f; hand mano f; eye ojo; heart corazón m;
head cabeza; arm brazo; foot pie m; face cara; animal animal m; cow vaca; sheep oveja; goat cabra; bee abeja;
wolf lobo; bear oso; duck pato; map mapa m; newspaper periódico; page página; pencil lápiz m; paper papel m;
lesson lección f; number número; color color m; corner esquina; tower torre f; castle castillo; ship nave f;
captain capitán m; journey viaje m; guest huésped m; party fiesta; dinner cena; fire fuego; smoke humo; snow nieve f
"""

# English verb of regular past, Spanish verb in -ar; a vowel that changes is left to none of them.
VERBS = """
open abrir-; watch mirar; carry llevar; call llamar; paint pintar; clean limpiar; visit visitar; help ayudar;
clear despejar; follow acompañar; kick patear; cook cocinar; wash lavar; repair reparar; plant plantar;
protect cuidar; study estudiar; explain explicar; observe observar; accept aceptar; need necesitar;
save salvar; enjoy disfrutar; greet saludar; invite invitar; order ordenar; prepare preparar; count mencionar;
measure examinar; name nombrar; praise elogiar; admire admirar; imitate imitar; draw- dibujar; collect coleccionar;
guard vigilar; cross cruzar; change cambiar; improve mejorar; push empujar; pull jalar; stop parar; cut- cortar;
kill matar; touch tocar; taste degustar; prove verificar; use usar; employ emplear; hide- ocultar; leave- dejar;
attack atacar-; organize organizar; control controlar; examine revisar; avoid evitar; rent alquilar; borrow prestar;
announce anunciar; remember recordar-; discover encontrar-; dominate dominar; support apoyar; decorate adornar;
drag arrastrar; launch lanzar; lift levantar; finish terminar; heat calentar-; dry secar-; weigh pesar; load cargar;
rob robar; transport transportar; ignore ignorar; respect respetar; reject rechazar; interrupt cortejar
"""

# English adjective, Spanish adjective in its masculine singular.
ADJECTIVES = """
old viejo; new nuevo; small pequeño; red rojo; white blanco; black negro; long largo; short corto; tall alto;
low bajo; wide ancho; narrow estrecho; quiet tranquilo; loud ruidoso; clean limpio; dirty sucio; dark oscuro;
clear claro; warm cálido; cold frío; dry seco; wet mojado; rich rico; strong fuerte; weak débil; sad triste;
happy contento; tired cansado; angry enfadado; famous famoso; strange extraño; beautiful hermoso; ugly feo;
cheap barato; expensive caro; full lleno; empty vacío; round redondo; broken roto; green verde; large grande;
slow lento; quick rápido; sweet dulce; bitter amargo; heavy pesado; light ligero; thin delgado; fat gordo;
careful cuidadoso; curious curioso; honest honesto; lazy perezoso; brave valiente; wise sabio; serious serio;
modern moderno; ancient antiguo; secret secreto; public público; private privado; wild salvaje; poor humilde;
golden dorado; wooden rústico; simple sencillo; deep profundo; hollow hueco; distant lejano; near cercano
"""

ADVERBS = """
slowly lentamente; quickly rápidamente; often frecuentemente; carefully cuidadosamente; always siempre;
never nunca; again nuevamente; finally finalmente; today hoy; yesterday ayer; early temprano; late tarde;
secretly secretamente; calmly tranquilamente; together juntos-; almost casi-; easily fácilmente; gladly gustosamente
"""

NAMES = ("Ana", "Marta", "Lucas", "Elena", "Tomas", "Clara", "Hugo", "Irene", "Oscar", "Julia", "Ramon", "Sofia")

NUMBERS = (
    ("two", "dos"), ("three", "tres"), ("four", "cuatro"), ("five", "cinco"), ("six", "seis"), ("seven", "siete"),
    ("eight", "ocho"), ("ten", "diez"), ("twelve", "doce"), ("twenty", "veinte"),
)  # fmt: skip
